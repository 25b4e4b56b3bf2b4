// Package parameters knows the configuration parameters of PostgreSQL's major versions: their
// names, types, ranges and units. A server does not start with an unknown parameter or a bad value,
// so the build checks them.
//
// The tables are pg_settings of real servers, written by the package's test (-update). It does not
// check what only the server knows: whether a string is meaningful, and whether values are
// consistent.
package parameters

import (
	"embed"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/strictyaml"
)

//go:embed *.tsv
var files embed.FS

// majors have a table.
var majors = []int{13, 15, 17}

// A Fault is a value that a server refuses, or an unknown parameter.
type Fault struct {
	Name      string
	What      string
	Warning   bool // the server may still accept it
	Extension bool // a parameter of an extension, which the tables do not have
}

func (f Fault) Error() string { return f.Name + ": " + f.What }

// Check returns the faults of a server's settings, sorted by name. A version without a table is
// compared with the nearest versions below and above: a value is refused if both refuse it, and a
// parameter that one of them lacks is a warning.
func Check(major int, settings map[string]string) ([]Fault, error) {
	near := neighbours(major)
	tables := make([]table, len(near))
	for i, m := range near {
		var err error
		if tables[i], err = read(m); err != nil {
			return nil, err
		}
	}
	var faults []Fault
	for name, value := range settings {
		if fault := check(major, near, tables, name, value); fault != nil {
			faults = append(faults, *fault)
		}
	}
	slices.SortFunc(faults, func(a, b Fault) int { return strings.Compare(a.Name, b.Name) })
	return faults, nil
}

// neighbours returns the nearest versions with a table: the version itself, or one below and one
// above.
func neighbours(major int) []int {
	i, exact := slices.BinarySearch(majors, major)
	switch {
	case exact:
		return majors[i : i+1]
	case i == 0:
		return majors[:1]
	case i == len(majors):
		return majors[i-1:]
	}
	return majors[i-1 : i+1]
}

func check(major int, near []int, tables []table, name, value string) *Fault {
	if strings.Contains(name, ".") {
		return &Fault{Name: name, What: "parameters of extensions are not checked", Warning: true, Extension: true}
	}
	var refused []error
	for i, t := range tables {
		p, ok := t[name]
		if !ok {
			return unknown(major, near[i], t, name)
		}
		if err := p.check(value); err != nil {
			refused = append(refused, err)
		}
	}
	if len(refused) == len(tables) {
		return &Fault{Name: name, What: refused[0].Error()}
	}
	return nil
}

// unknown returns the fault for a parameter that a table does not have.
func unknown(major, of int, t table, name string) *Fault {
	what := fmt.Sprintf("PostgreSQL %d does not have this parameter", of)
	if of != major {
		what += fmt.Sprintf(", and those of %d are not known", major)
	}
	if near := strictyaml.Nearest(name, slices.Sorted(maps.Keys(t))); near != "" {
		what += fmt.Sprintf("; did you mean %q?", near)
	}
	return &Fault{Name: name, What: what, Warning: of != major}
}

// A table has the parameters of a version, by name.
type table map[string]parameter

// A parameter is a line of a table. Type is pg_settings' vartype, or "internal" for parameters that
// users cannot set and "hidden" for those that pg_settings does not list.
type parameter struct {
	kind     string
	unit     string   // pg_settings' unit, as "8kB"
	min, max float64  // in that unit
	values   []string // of an enum
}

// read parses a table. A line has the name and the type; for a number also unit, minimum and
// maximum; for an enum the values, separated by commas.
func read(major int) (table, error) {
	text, err := files.ReadFile(fmt.Sprintf("%d.tsv", major))
	if err != nil {
		return nil, err
	}
	t := table{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) < 2 {
			return nil, fmt.Errorf("PostgreSQL %d's parameters: %q is not a line of a table", major, line)
		}
		p := parameter{kind: fields[1]}
		switch {
		case p.kind == "enum" && len(fields) == 3:
			p.values = strings.Split(fields[2], ",")
		case len(fields) == 5:
			p.unit = fields[2]
			if p.min, err = strconv.ParseFloat(fields[3], 64); err == nil {
				p.max, err = strconv.ParseFloat(fields[4], 64)
			}
		case len(fields) != 2:
			err = strconv.ErrSyntax
		}
		if err != nil {
			return nil, fmt.Errorf("PostgreSQL %d's parameters: %q is not a line of a table", major, line)
		}
		t[fields[0]] = p
	}
	return t, nil
}

// check accepts the same values as PostgreSQL's guc.c (parse_bool, parse_int, parse_real,
// config_enum_lookup_by_name).
func (p parameter) check(value string) error {
	switch p.kind {
	case "internal":
		return fmt.Errorf("cannot be changed, it follows from how the server or the cluster was made")
	case "bool":
		if !isBool(value) {
			return fmt.Errorf("%q is not on or off", value)
		}
	case "enum":
		if !slices.ContainsFunc(p.values, func(v string) bool { return strings.EqualFold(v, value) }) {
			return fmt.Errorf("%q is none of %s", value, strings.Join(p.values, ", "))
		}
	case "integer", "real":
		return p.checkNumber(value)
	}
	return nil
}

// isBool accepts true, false, yes, no, on, off and their unambiguous prefixes, in any case, and 1
// and 0.
func isBool(value string) bool {
	v := strings.ToLower(value)
	for _, word := range []string{"true", "false", "yes", "no"} {
		if v != "" && strings.HasPrefix(word, v) {
			return true
		}
	}
	return slices.Contains([]string{"on", "off", "of", "1", "0"}, v)
}

func (p parameter) checkNumber(value string) error {
	number, unit := splitNumber(value)
	n, err := parseNumber(number, p.kind == "integer")
	if err != nil {
		return fmt.Errorf("%q is not a number", value)
	}
	if unit != "" {
		factor, ok := p.factor(unit)
		if !ok {
			return fmt.Errorf("%q has no unit that this parameter takes%s", value, p.units())
		}
		n *= factor
	}
	if p.kind == "integer" {
		n = math.RoundToEven(n)
	}
	if n < p.min || n > p.max {
		return fmt.Errorf("%s is not in the range of %s to %s", value, p.write(p.min), p.write(p.max))
	}
	return nil
}

// write formats a bound of the range with its unit.
func (p parameter) write(n float64) string {
	text := strconv.FormatFloat(n, 'f', -1, 64)
	if math.Abs(n) > 1e15 {
		text = strconv.FormatFloat(n, 'g', -1, 64)
	}
	switch {
	case p.unit == "" || n == 0 || n == -1:
		return text
	case p.unit[0] >= '0' && p.unit[0] <= '9': // "8kB"
		return text + " times " + p.unit
	}
	return text + p.unit
}

// splitNumber splits a value into a number, as strtod(3) parses it, and the rest.
func splitNumber(value string) (number, rest string) {
	value = strings.Trim(value, " \t\n\v\f\r")
	end := len(value)
	for end > 0 {
		c := value[end-1]
		if c >= '0' && c <= '9' || c == '.' {
			break
		}
		end--
	}
	if hex := strings.TrimLeft(value, "+-"); len(hex) > 2 && hex[0] == '0' && hex[1]|0x20 == 'x' {
		end = len(value) // digits and units share letters
	}
	return value[:end], strings.TrimLeft(value[end:], " \t\n\v\f\r")
}

func parseNumber(text string, integer bool) (float64, error) {
	if integer { // also hexadecimal and octal, as strtol(3) with base 0
		if strings.Contains(text, "_") {
			return 0, strconv.ErrSyntax
		}
		if n, err := strconv.ParseInt(text, 0, 64); err == nil && !strings.ContainsAny(text, "oObB") {
			return float64(n), nil
		}
	}
	if strings.ContainsAny(text, "_nNiI") {
		return 0, strconv.ErrSyntax
	}
	if strings.ContainsAny(text, "xX") && !strings.ContainsAny(text, "pP") {
		text += "p0" // the exponent is optional for strtod(3), but not for ParseFloat
	}
	return strconv.ParseFloat(text, 64)
}

// The units of guc.c's memory_unit_conversion_table, in bytes, and time_unit_conversion_table, in
// microseconds.
var (
	memoryUnits = map[string]float64{"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
	timeUnits   = map[string]float64{"us": 1, "ms": 1e3, "s": 1e6, "min": 60e6, "h": 3600e6, "d": 86400e6}
)

// factor returns the size of a unit in the parameter's own unit.
func (p parameter) factor(unit string) (float64, bool) {
	base := strings.TrimLeft(p.unit, "0123456789")
	count := 1.0
	if digits := p.unit[:len(p.unit)-len(base)]; digits != "" {
		count, _ = strconv.ParseFloat(digits, 64) // digits only
	}
	for _, units := range []map[string]float64{memoryUnits, timeUnits} {
		if of, ok := units[base]; ok {
			n, known := units[unit]
			return n / (of * count), known
		}
	}
	return 0, false
}

// units lists the valid units of a value, for an error.
func (p parameter) units() string {
	switch base := strings.TrimLeft(p.unit, "0123456789"); {
	case memoryUnits[base] != 0:
		return ", which are B, kB, MB, GB and TB"
	case timeUnits[base] != 0:
		return ", which are us, ms, s, min, h and d"
	}
	return ": write a number alone"
}
