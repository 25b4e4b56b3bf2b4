package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// A ScalarUnmarshaler takes a string, number or boolean as the document writes
// it, without its quotes.
type ScalarUnmarshaler interface {
	UnmarshalScalar(text string) error
}

// maxDepth bounds the nesting of a document.
const maxDepth = 64

type decoder struct {
	doc   *Document
	depth int
}

// reflectTarget returns the struct that v points to. Anything else is a mistake
// in the calling program.
func reflectTarget(v any) reflect.Value {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("strictyaml: cannot decode into %T", v))
	}
	return target.Elem()
}

func (d *decoder) decode(n ast.Node, path string, out reflect.Value) {
	d.doc.places[path] = place(n)
	if d.depth++; d.depth > maxDepth {
		d.doc.Faultf(path, "nested deeper than %d levels", maxDepth)
		return
	}
	defer func() { d.depth-- }()
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		d.doc.Faultf(path, "anchors, aliases and tags are not used here; write the value out")
		return
	}
	if out.Kind() == reflect.Pointer {
		if out.IsNil() {
			out.Set(reflect.New(out.Type().Elem()))
		}
		out = out.Elem()
	}
	switch u := out.Addr().Interface().(type) {
	case ScalarUnmarshaler:
		if _, list := n.(*ast.SequenceNode); list && out.Kind() == reflect.Slice {
			break // a list that a word may stand for
		}
		if _, mapping := n.(ast.MapNode); mapping && out.Kind() == reflect.Struct {
			break // a mapping that a word or number may stand for
		}
		d.unmarshal(n, path, "a string, number or boolean", isScalar, u.UnmarshalScalar)
		return
	case encoding.TextUnmarshaler:
		d.unmarshal(n, path, "a string", isString, func(s string) error { return u.UnmarshalText([]byte(s)) })
		return
	}
	switch out.Kind() {
	case reflect.Struct:
		d.decodeStruct(n, path, out)
	case reflect.Map:
		d.decodeMap(n, path, out)
	case reflect.Slice:
		d.decodeSlice(n, path, out)
	default:
		d.decodeScalar(n, path, out)
	}
}

func (d *decoder) unmarshal(n ast.Node, path, want string, fits func(ast.Node) bool, take func(string) error) {
	if !fits(n) {
		d.mismatch(n, path, want)
		return
	}
	if err := take(text(n)); err != nil {
		d.doc.Faultf(path, "%v", err)
	}
}

func (d *decoder) decodeStruct(n ast.Node, path string, out reflect.Value) {
	fields := map[string]reflect.Value{}
	for i := range out.NumField() {
		if key := out.Type().Field(i).Tag.Get("yaml"); key != "" && key != "-" {
			fields[key] = out.Field(i)
		}
	}
	d.eachPair(n, path, func(key string, at Position, value ast.Node) {
		field, ok := fields[key]
		if !ok {
			d.doc.fault(at, unknownKey(key, path, fields))
			return
		}
		d.decode(value, Join(path, key), field)
	})
}

func (d *decoder) decodeMap(n ast.Node, path string, out reflect.Value) {
	out.Set(reflect.MakeMap(out.Type()))
	d.eachPair(n, path, func(key string, _ Position, value ast.Node) {
		elem := reflect.New(out.Type().Elem()).Elem()
		d.decode(value, Join(path, key), elem)
		out.SetMapIndex(reflect.ValueOf(key).Convert(out.Type().Key()), elem)
	})
}

// eachPair calls fn for each key of a mapping that is a plain string and
// stands there for the first time.
func (d *decoder) eachPair(n ast.Node, path string, fn func(key string, at Position, value ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.mismatch(n, path, "a mapping (key: value)")
		return
	}
	first := map[string]Position{}
	for pairs := m.MapRange(); pairs.Next(); {
		at := place(pairs.Key())
		if !isString(pairs.Key()) || pairs.Key().IsMergeKey() {
			d.doc.fault(at, fmt.Sprintf("a key must be a plain string, not %s", pairs.Key()))
			continue
		}
		key := text(pairs.Key())
		if before, twice := first[key]; twice {
			d.doc.fault(at, fmt.Sprintf("key %q is given twice, first on line %d", key, before.Line))
			continue
		}
		first[key] = at
		fn(key, at, pairs.Value())
	}
}

func (d *decoder) decodeSlice(n ast.Node, path string, out reflect.Value) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		d.mismatch(n, path, "a list")
		return
	}
	out.Set(reflect.MakeSlice(out.Type(), len(list.Values), len(list.Values)))
	for i, value := range list.Values {
		d.decode(value, Index(path, i), out.Index(i))
	}
}

func (d *decoder) decodeScalar(n ast.Node, path string, out reflect.Value) {
	switch out.Kind() {
	case reflect.String:
		if !isString(n) {
			d.mismatch(n, path, "a string")
			return
		}
		out.SetString(text(n))
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.mismatch(n, path, "true or false")
			return
		}
		out.SetBool(b.Value)
	case reflect.Int, reflect.Int32, reflect.Int64:
		number, ok := integer(n)
		if !ok {
			d.mismatch(n, path, "a whole number")
			return
		}
		if out.OverflowInt(number) {
			d.doc.Faultf(path, "%d is out of range", number)
			return
		}
		out.SetInt(number)
	default:
		panic("strictyaml: cannot decode into " + out.Type().String())
	}
}

func (d *decoder) mismatch(n ast.Node, path, want string) {
	d.doc.Faultf(path, "expected %s, found %s", want, describe(n))
}

func unknownKey(key, path string, fields map[string]reflect.Value) string {
	known := make([]string, 0, len(fields))
	for k := range fields {
		known = append(known, k)
	}
	slices.Sort(known)
	where := "at the top level"
	if path != "" {
		where = "in " + path
	}
	if near := Nearest(key, known); near != "" {
		return fmt.Sprintf("unknown key %q %s; did you mean %q?", key, where, near)
	}
	return fmt.Sprintf("unknown key %q %s; known keys are %s", key, where, strings.Join(known, ", "))
}
