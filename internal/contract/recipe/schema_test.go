package recipe

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sovereign-sql/sov/assets"
	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// Three sources must agree: the Go types have the keys and their types, Parse has the defaults, and
// docs/recipe.md has the text of each key. The tests here compare them, and make the JSON Schema
// from them.

const recipeDocs = "../../../docs/recipe.md"

// A row describes keys in a table of docs/recipe.md.
type row struct {
	line            int // in the file, from 0
	paths           []string
	kind, def, text string
}

var (
	codeForm    = regexp.MustCompile("`([^`]*)`")
	literalCell = regexp.MustCompile("^`([^`]*)`$")
)

// readRows returns the rows of the tables of keys.
func readRows(t *testing.T, lines []string) []*row {
	t.Helper()
	var rows []*row
	var section, table string
	inTable := false
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "#"):
			inTable, section = false, ""
			if m := codeForm.FindStringSubmatch(line); m != nil && typeAt(m[1]) != nil {
				section = m[1]
			}
		case strings.HasPrefix(line, "| key"):
			inTable, table = true, section
			if m := codeForm.FindStringSubmatch(line); m != nil { // "key of `roles`"
				if table = strictyaml.Join(section, m[1]); typeAt(table) == nil {
					table = m[1]
				}
				if typeAt(table) == nil {
					t.Fatalf("docs/recipe.md:%d: the recipe has no %s", i+1, m[1])
				}
			}
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case inTable && !strings.HasPrefix(line, "| ---"):
			cells := cellsOf(line)
			if len(cells) != 4 {
				t.Fatalf("docs/recipe.md:%d: %d cells in place of key, type, default and text", i+1, len(cells))
			}
			r := &row{line: i, kind: strings.TrimSpace(cells[1]), def: strings.TrimSpace(cells[2]), text: strings.TrimSpace(cells[3])}
			for _, m := range codeForm.FindAllStringSubmatch(cells[0], -1) {
				path := strictyaml.Join(table, m[1])
				if typeAt(path) == nil {
					t.Errorf("docs/recipe.md:%d: the recipe has no key %s: remove the row, or correct it", i+1, path)
					continue
				}
				r.paths = append(r.paths, path)
			}
			rows = append(rows, r)
		}
	}
	return rows
}

func cellsOf(line string) []string {
	return strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "|"), "|"), "|")
}

// typeAt returns the type of a key, or of its items if it is a list, or nil.
func typeAt(path string) reflect.Type {
	typ := reflect.TypeFor[Recipe]()
	for key := range strings.SplitSeq(path, ".") {
		if typ = itemType(typ); typ.Kind() != reflect.Struct || typ == nodeType {
			return nil
		}
		var found reflect.Type
		for i := range typ.NumField() {
			if typ.Field(i).Tag.Get("yaml") == key {
				found = typ.Field(i).Type
			}
		}
		if found == nil {
			return nil
		}
		typ = found
	}
	return typ
}

var nodeType = reflect.TypeFor[strictyaml.Node]()

func itemType(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

// kindOf returns the words for a type in the tables.
func kindOf(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[Mode]():
		return "mode"
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[Command]():
		return "list of strings, or `image`"
	case reflect.TypeFor[overlays]():
		return "map of recipes"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int:
		return "number"
	case reflect.Map:
		if t.Elem().Kind() == reflect.String && t.Elem().Name() == "string" {
			return "map of strings"
		}
		return "map"
	case reflect.Slice:
		switch elem := kindOf(t.Elem()); elem {
		case "string", "number":
			return "list of " + elem + "s"
		case "list of strings":
			return "list of commands"
		}
		return "list"
	case reflect.Struct:
		return ""
	}
	return "string"
}

// fitsKind reports whether a table's words for a type mean the type.
func fitsKind(have, want string) bool {
	return have == want || strings.HasPrefix(want, "list") && strings.HasPrefix(have, "list of ")
}

// filled returns a recipe with an item in each list, as Parse completes it.
func filled(t *testing.T) *Recipe {
	t.Helper()
	r, err := Parse("filled.yaml", []byte(minimal+`
users: [{name: u, uid: 1, gid: 1}]
groups: [{name: g, gid: 2}]
directories: [{path: /d}]
files: [{path: /f, content: ""}]
services: [{name: s, command: [/s], directories: [{path: /data/s}]}]
postgres: {roles: [{name: r}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// defaultOf returns the default that Parse fills in for a key, as YAML, or "".
func defaultOf(r *Recipe, path string) string {
	v := reflect.ValueOf(r).Elem()
	for key := range strings.SplitSeq(path, ".") {
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice {
			if v.Kind() == reflect.Slice && v.Len() == 0 || v.Kind() == reflect.Pointer && v.IsNil() {
				return ""
			}
			if v.Kind() == reflect.Slice {
				v = v.Index(0)
			} else {
				v = v.Elem()
			}
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("yaml") == key {
				v = v.Field(i)
				break
			}
		}
	}
	return literal(v)
}

func literal(v reflect.Value) string {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.IsZero() {
		return ""
	}
	switch x := v.Interface().(type) {
	case Size:
		return x.String()
	case Mode:
		return fmt.Sprintf("%q", fmt.Sprintf("%04o", x))
	case Duration:
		text := time.Duration(x).String()
		return strings.TrimSuffix(text, "0s") // 1m0s
	}
	switch v.Kind() {
	case reflect.Slice:
		var items []string
		for i := range v.Len() {
			if items = append(items, literal(v.Index(i))); v.Index(i).Kind() == reflect.Struct {
				return ""
			}
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Struct, reflect.Map:
		return ""
	case reflect.String:
		n := strictyaml.Node{Kind: strictyaml.String, Text: v.String()}
		return strings.TrimSpace(string(n.Encode()))
	}
	return fmt.Sprint(v.Interface())
}

// written returns a value of YAML in its canonical form.
func written(text string) string {
	n, err := strictyaml.Parse("value", []byte(text))
	if err != nil {
		return text
	}
	return string(n.Encode())
}

// keys returns the paths of all keys, without those below by_arch and profiles.
func keys(path string, typ reflect.Type) (out []string) {
	if typ = itemType(typ); typ.Kind() != reflect.Struct {
		return nil
	}
	for i := range typ.NumField() {
		if key := typ.Field(i).Tag.Get("yaml"); key != "" && key != "-" {
			at := strictyaml.Join(path, key)
			out = append(append(out, at), keys(at, typ.Field(i).Type)...)
		}
	}
	return out
}

// explained maps each key to the row that describes it: the key's row, or the row of its parent if
// that names the key.
func explained(t *testing.T, rows []*row) map[string]*row {
	t.Helper()
	own := map[string]*row{}
	for _, r := range rows {
		for _, path := range r.paths {
			if own[path] != nil {
				t.Errorf("docs/recipe.md:%d: %s has a row already, on line %d", r.line+1, path, own[path].line+1)
			}
			own[path] = r
		}
	}
	for _, path := range keys("", reflect.TypeFor[Recipe]()) {
		if own[path] != nil || itemType(typeAt(path)).Kind() == reflect.Struct && !strings.Contains(path, ".") { // a section
			continue
		}
		around, key := path[:max(strings.LastIndex(path, "."), 0)], path[strings.LastIndex(path, ".")+1:]
		r := own[around]
		if r == nil || !strings.Contains(r.text, "`"+key+"`") && !strings.Contains(r.text, "`"+key+":") && !strings.Contains(r.text, "{"+key) && !strings.Contains(r.text, ", "+key) {
			// Several tables can describe the same type.
			t.Errorf("docs/recipe.md does not describe %s: add a row for it, or name it in that of %s", path, around)
			continue
		}
		own[path] = r
	}
	return own
}

// TestDocs: the tables of docs/recipe.md have all keys and no others, with their types and
// defaults. With -update types and defaults are rewritten. A key without a text always fails.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(recipeDocs)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	rows := readRows(t, lines)
	explained(t, rows)
	r := filled(t)
	for _, row := range rows {
		var kinds, defaults []string
		for _, path := range row.paths {
			kinds = append(kinds, kindOf(typeAt(path)))
			defaults = append(defaults, defaultOf(r, path))
		}
		kind, def := row.kind, row.def
		if same := slices.Compact(slices.Clone(kinds)); len(same) == 1 && !fitsKind(kind, same[0]) {
			kind = same[0]
		} else if len(same) > 1 && kind != strings.Join(kinds, ", ") {
			kind = strings.Join(kinds, ", ")
		}
		if len(row.paths) == 1 {
			m := literalCell.FindStringSubmatch(def)
			switch {
			case defaults[0] != "" && (m != nil && written(m[1]) != written(defaults[0]) && typeAt(m[1]) == nil || def == "" || def == "none"):
				def = "`" + defaults[0] + "`"
			case defaults[0] == "" && m != nil && slices.Contains([]string{"boolean", "number", "size"}, kind) && !slices.Contains([]string{"false", "0"}, m[1]) && !strings.Contains(row.text, "ith "):
				t.Errorf("docs/recipe.md:%d: %s has no default, and the table says %s", row.line+1, row.paths[0], def)
			}
		}
		if kind == row.kind && def == row.def {
			continue
		}
		if !*update {
			t.Errorf("docs/recipe.md:%d: %s is %q, by default %q; the types say %q, %q: go test ./internal/contract/recipe -update", row.line+1,
				strings.Join(row.paths, ", "), row.kind, row.def, kind, def)
		}
		cells := cellsOf(lines[row.line])
		line := "|"
		for _, cell := range []string{cells[0], kind, def, cells[3]} {
			if cell = strings.TrimSpace(cell); cell != "" {
				line += " " + cell
			}
			line += " |"
		}
		lines[row.line] = line
	}
	if *update {
		if err := os.WriteFile(recipeDocs, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// enums are the keys that accept only these words. TestEnums compares them with Parse.
var enums = map[string][]string{
	"services.restart.policy": {"always", "on-failure", "never"},
	"services.stop.signal":    stopSignals,
	"postgres.superuser":      {SuperuserHost, SuperuserAnywhere},
	"vm.awake":                {"always", "charging", "never"},
	"vm.data_key":             {DataKeyOnPhone, DataKeyOnHost},
	"network.routing":         {RoutingAuto, RoutingScoped, RoutingMainFirst},
	"network.egress":          {EgressLAN, EgressPhone},
}

func TestEnums(t *testing.T) {
	const with = minimal + "packages: {repositories: [r]}\n"
	for path, words := range enums {
		for _, word := range append(slices.Clone(words), "nonsense") {
			value := word
			if typeAt(path).Kind() == reflect.Slice {
				value = "[" + word + "]"
			}
			text := fmt.Sprintf("%s: %s", path[strings.LastIndex(path, ".")+1:], value)
			switch around := path[:strings.LastIndex(path, ".")]; around {
			case "services.restart", "services.stop":
				text = "services: [{name: s, command: [/s], " + strings.TrimPrefix(around, "services.") + ": {" + text + "}}]"
			case "vm":
				text = "vm: {encrypt: true, " + text + "}"
			case "postgres":
				text = "postgres: {enabled: true, " + text + "}"
			default:
				text = around + ": {" + text + "}"
			}
			if _, err := Parse("enum.yaml", []byte(with+text+"\n")); (err == nil) != (word != "nonsense") {
				t.Errorf("%s: %s: %v", path, word, err)
			}
		}
	}
}

// A schemaMaker makes the JSON Schema.
type schemaMaker struct {
	rows map[string]*row
	full *Recipe
}

type object = map[string]any

func (m schemaMaker) value(path string, t reflect.Type, pointer string) object {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	out := object{}
	switch t {
	case reflect.TypeFor[Size]():
		out["type"], out["pattern"] = []string{"string", "integer"}, "^(0|[0-9]+ ?(KiB|MiB|GiB|TiB))$"
	case reflect.TypeFor[Mode]():
		out["type"], out["pattern"] = "string", "^[0-7]{1,4}$"
	case reflect.TypeFor[Command]():
		out["anyOf"] = []object{{"const": imageCommand}, {"type": "array", "items": object{"type": "string"}}}
	case reflect.TypeFor[overlays]():
		out["type"], out["additionalProperties"] = "object", object{"$ref": "#/$defs/part"}
		if path == "by_arch" {
			out["propertyNames"] = object{"enum": arch.Names()}
		}
	default:
		m.plain(out, path, t, pointer)
	}
	if words := enums[path]; words != nil && out["items"] != nil {
		out["items"] = object{"enum": words}
	} else if words != nil {
		out["enum"] = words
	}
	if r := m.rows[path]; r != nil && r.text != "" && slices.Contains(r.paths, path) {
		out["description"] = r.text
	}
	if r := m.rows[path]; r != nil && literalCell.MatchString(r.def) {
		if n, err := strictyaml.Parse("default", []byte(defaultOf(m.full, path))); err == nil && n != nil {
			out["default"] = n
		}
	}
	return out
}

func (m schemaMaker) plain(out object, path string, t reflect.Type, pointer string) {
	pt := reflect.PointerTo(t)
	switch {
	case pt.Implements(reflect.TypeFor[strictyaml.ScalarUnmarshaler]()):
		out["type"] = []string{"string", "number", "boolean"}
	case pt.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		out["type"] = "string"
	case t.Kind() == reflect.Bool:
		out["type"] = "boolean"
	case t.Kind() == reflect.Int:
		out["type"] = "integer"
	case t.Kind() == reflect.String:
		out["type"] = "string"
	case t.Kind() == reflect.Map:
		out["type"], out["additionalProperties"] = "object", m.value(path+".*", t.Elem(), pointer+"/additionalProperties")
	case t.Kind() == reflect.Slice:
		out["type"], out["items"] = "array", m.value(path+"[]", t.Elem(), pointer+"/items")
	case pt.Implements(reflect.TypeFor[strictyaml.Abbreviated]()):
		short := reflect.New(t).Interface().(strictyaml.Abbreviated).Short()
		whole := object{}
		m.object(whole, strings.TrimSuffix(path, "[]"), t, pointer+"/anyOf/1")
		out["anyOf"] = []object{m.value(path+".", reflect.TypeOf(short).Elem(), pointer+"/anyOf/0"), whole}
	case t.Kind() == reflect.Struct:
		m.object(out, strings.TrimSuffix(path, "[]"), t, pointer)
	default:
		panic(t.String())
	}
}

func (m schemaMaker) object(out object, path string, t reflect.Type, pointer string) {
	properties := object{}
	for i := range t.NumField() {
		key := t.Field(i).Tag.Get("yaml")
		if key == "" || key == "-" {
			continue
		}
		here := pointer + "/properties/" + key
		v := m.value(strictyaml.Join(path, key), t.Field(i).Type, here)
		properties[key] = v
		if v["type"] == "array" {
			properties[key+strictyaml.Append] = object{"$ref": here, "description": "Appended to `" + key + "` of the recipe below."}
		}
	}
	out["type"], out["properties"], out["additionalProperties"] = "object", properties, false
}

func makeSchema(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(recipeDocs)
	if err != nil {
		t.Fatal(err)
	}
	m := schemaMaker{explained(t, readRows(t, strings.Split(string(text), "\n"))), filled(t)}
	out := object{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A recipe of sov"}
	m.object(out, "", reflect.TypeFor[Recipe](), "#")
	out["anyOf"] = []object{{"required": []string{"extends"}}, {"required": []string{"name", "base"}}}
	part := object{}
	for key := range maps.Keys(out["properties"].(object)) {
		if !slices.Contains(compositionKeys, key) {
			part[key] = object{"$ref": "#/properties/" + key}
		}
	}
	out["$defs"] = object{"part": object{"type": "object", "properties": part, "additionalProperties": false}}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(out); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestSchema: the schema that sov prints matches the types and the documentation. With -update the
// schema is rewritten.
func TestSchema(t *testing.T) {
	want := makeSchema(t)
	if *update {
		if err := os.WriteFile("schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(Schema(), want) {
		t.Error("schema.json is not that of the types and docs/recipe.md: go test ./internal/contract/recipe -update")
	}
}

// TestRecipesFitSchema: the schema accepts the recipes that Parse accepts, and refuses those that
// Parse refuses for their shape.
func TestRecipesFitSchema(t *testing.T) {
	value, err := validator.UnmarshalJSON(bytes.NewReader(makeSchema(t)))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	if err := c.AddResource("recipe.json", value); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("recipe.json")
	if err != nil {
		t.Fatal(err)
	}
	fits := func(text string) error {
		t.Helper()
		encoded, err := JSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		value, err := validator.UnmarshalJSON(bytes.NewReader(encoded))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(value)
	}
	sql, err := assets.Recipe("sql")
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{string(sql), minimal, web, minimal + "services: [{name: s, command: image, ready: {timeout: 3m}}]\nfiles: [{path: /f, content: x, mode: \"0600\"}]\n"} {
		if err := fits(text); err != nil {
			t.Errorf("recipe %d: %v", i, err)
		}
	}
	for _, text := range []string{"name: x\n", minimal + "vm: {memry: 1GiB}\n", minimal + "vm: {memory: 1GB}\n", minimal + "vm: {cpus: two}\n", minimal + "by_arch: {arm: {}}\n",
		minimal + "profiles: {dev: {extends: sql}}\n", minimal + "services: [{command: run}]\n", minimal + "network: {egress: [all]}\n", minimal + "name+: [a]\n"} {
		if fits(text) == nil {
			t.Errorf("the schema takes\n%s", text)
		}
		if _, err := Parse("x.yaml", []byte(text)); err == nil {
			t.Errorf("Parse takes\n%s", text)
		}
	}
}
