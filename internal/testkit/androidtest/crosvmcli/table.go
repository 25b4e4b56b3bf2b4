package crosvmcli

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

//go:embed crosvm-flags.tsv
var facts []byte

// A Table lists the flags of all releases.
type Table []Flag

// A Flag is a row of the table.
type Flag struct {
	Name, Short string // "--mem", "-m"; the positional argument is "KERNEL"
	Kind        string // "switch", "option" or "positional"
	Value       string // type of an option's value, in Rust
	Repeatable  bool
	In          map[Release]bool
	Condition   string // of the build
	Deprecated  string // commit and day; the flag still works
}

// Facts returns the table that was extracted from the sources.
func Facts() Table {
	t, err := ReadTable(facts)
	if err != nil {
		panic(err) // embedded, and checked by the tests
	}
	return t
}

// ReadTable parses tab-separated values with a header line.
func ReadTable(src []byte) (Table, error) {
	lines := strings.Split(strings.TrimSpace(string(src)), "\n")
	names := strings.Split(lines[0], "\t")
	var t Table
	for i, line := range lines[1:] {
		row := map[string]string{}
		cells := strings.Split(line, "\t")
		if len(cells) > len(names) {
			return nil, fmt.Errorf("line %d: %d columns, want %d", i+2, len(cells), len(names))
		}
		for j, cell := range cells {
			row[names[j]] = cell
		}
		f := Flag{Name: row["flag"], Short: row["short"], Kind: row["kind"], Value: row["value"], Repeatable: row["repeatable"] == "yes",
			In: map[Release]bool{}, Condition: row["build_condition"], Deprecated: row["marked_deprecated"]}
		if !slices.Contains([]string{"switch", "option", "positional"}, f.Kind) {
			return nil, fmt.Errorf("line %d: kind %q", i+2, f.Kind)
		}
		for _, r := range Releases {
			f.In[r] = row[string(r)] == "y"
		}
		t = append(t, f)
	}
	return t, nil
}

// Find returns the flag with a long or a short name in a release's crosvm on an arm64 phone.
func (t Table) Find(r Release, name string) (Flag, bool) {
	i := slices.IndexFunc(t, func(f Flag) bool {
		return (f.Name == name || f.Short != "" && f.Short == name) && f.Kind != "positional" && f.builtIn(r)
	})
	if i < 0 {
		return Flag{}, false
	}
	return t[i], true
}

var (
	featurePattern = regexp.MustCompile(`feature = "([^"]+)"`)
	archPattern    = regexp.MustCompile(`target_arch = "([^"]+)"`)
)

// builtIn reports whether Android's arm64 build of a release has the flag. Android 13's parser also
// accepts the flags of other architectures, which fail later.
func (f Flag) builtIn(r Release) bool {
	if !f.In[r] || strings.HasPrefix(f.Condition, "windows") || strings.HasPrefix(f.Condition, "all(windows") {
		return false
	}
	arches := archPattern.FindAllStringSubmatch(f.Condition, -1)
	if len(arches) > 0 && r != Android13 && !slices.ContainsFunc(arches, func(m []string) bool { return m[1] == "aarch64" }) {
		return false
	}
	needed := featurePattern.FindAllStringSubmatch(f.Condition, -1)
	return !slices.ContainsFunc(needed, func(m []string) bool { return !r.hasFeature(m[1]) })
}
