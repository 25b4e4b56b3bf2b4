package strictyaml

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// A ScalarUnmarshaler decodes a string, number or boolean from its text in the document, without
// quotes.
type ScalarUnmarshaler interface {
	UnmarshalScalar(text string) error
}

// An Abbreviated is a struct that a document may give as the value of one field, a scalar or a
// list, instead of a mapping. Short returns a pointer to that field.
type Abbreviated interface {
	Short() any
}

// maxDepth is the maximum nesting of a document.
const maxDepth = 64

var tooDeepMessage = fmt.Sprintf("nested deeper than %d levels", maxDepth)

type decoder struct{ doc *Document }

// reflectTarget returns the struct that v points to. It panics for anything else.
func reflectTarget(v any) reflect.Value {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("strictyaml: cannot decode into %T", v))
	}
	return target.Elem()
}

func (d *decoder) decode(n *Node, path string, out reflect.Value) {
	d.doc.places[path] = n.Place
	if n.Kind == invalid {
		return
	}
	if out.Type() == reflect.TypeFor[*Node]() {
		out.Set(reflect.ValueOf(n))
		return
	}
	if out.Kind() == reflect.Pointer {
		if out.IsNil() {
			out.Set(reflect.New(out.Type().Elem()))
		}
		out = out.Elem()
	}
	switch u := out.Addr().Interface().(type) {
	case Abbreviated:
		if n.Kind != Mapping {
			d.decode(n, path, reflect.ValueOf(u.Short()).Elem())
			return
		}
	case ScalarUnmarshaler:
		if n.Kind == List && out.Kind() == reflect.Slice {
			break // a list, which could also be a scalar
		}
		d.unmarshal(n, path, "a string, number or boolean", n.isScalar(), u.UnmarshalScalar)
		return
	case encoding.TextUnmarshaler:
		d.unmarshal(n, path, "a string", n.Kind == String, func(s string) error { return u.UnmarshalText([]byte(s)) })
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

func (d *decoder) unmarshal(n *Node, path, want string, fits bool, take func(string) error) {
	if !fits {
		d.mismatch(n, path, want)
		return
	}
	if err := take(n.Text); err != nil {
		d.doc.Faultf(path, "%v", err)
	}
}

func (d *decoder) decodeStruct(n *Node, path string, out reflect.Value) {
	fields := map[string]reflect.Value{}
	for i := range out.NumField() {
		if key := out.Type().Field(i).Tag.Get("yaml"); key != "" && key != "-" {
			fields[key] = out.Field(i)
		}
	}
	if n.Kind != Mapping {
		d.mismatch(n, path, wantMapping)
		return
	}
	for _, p := range n.Pairs {
		if field, ok := fields[p.Key]; ok {
			d.decode(p.Value, Join(path, p.Key), field)
		} else {
			d.doc.Fault(p.At, UnknownKey(p.Key, path, slices.Sorted(maps.Keys(fields))))
		}
	}
}

func (d *decoder) decodeMap(n *Node, path string, out reflect.Value) {
	out.Set(reflect.MakeMap(out.Type()))
	if n.Kind != Mapping {
		d.mismatch(n, path, wantMapping)
		return
	}
	for _, p := range n.Pairs {
		elem := reflect.New(out.Type().Elem()).Elem()
		d.decode(p.Value, Join(path, p.Key), elem)
		out.SetMapIndex(reflect.ValueOf(p.Key).Convert(out.Type().Key()), elem)
	}
}

const wantMapping = "a mapping (key: value)"

func (d *decoder) decodeSlice(n *Node, path string, out reflect.Value) {
	if n.Kind != List {
		d.mismatch(n, path, "a list")
		return
	}
	out.Set(reflect.MakeSlice(out.Type(), len(n.Items), len(n.Items)))
	for i, value := range n.Items {
		d.decode(value, Index(path, i), out.Index(i))
	}
}

func (d *decoder) decodeScalar(n *Node, path string, out reflect.Value) {
	switch out.Kind() {
	case reflect.String:
		if n.Kind != String {
			d.mismatch(n, path, "a string")
			return
		}
		out.SetString(n.Text)
	case reflect.Bool:
		if n.Kind != Bool {
			d.mismatch(n, path, "true or false")
			return
		}
		out.SetBool(strings.EqualFold(n.Text, "true"))
	case reflect.Int, reflect.Int32, reflect.Int64:
		if !n.fits {
			d.mismatch(n, path, "a whole number")
			return
		}
		if out.OverflowInt(n.integer) {
			d.doc.Faultf(path, "%d is out of range", n.integer)
			return
		}
		out.SetInt(n.integer)
	default:
		panic("strictyaml: cannot decode into " + out.Type().String())
	}
}

func (d *decoder) mismatch(n *Node, path, want string) {
	d.doc.Faultf(path, "expected %s, found %s", want, n.describe())
}

// UnknownKey returns the error message for an unknown key in the mapping at path. It suggests a
// similar known key or lists all known keys.
func UnknownKey(key, path string, known []string) string {
	where := "at the top level"
	if path != "" {
		where = "in " + path
	}
	if near := Nearest(key, known); near != "" {
		return fmt.Sprintf("unknown key %q %s; did you mean %q?", key, where, near)
	}
	return fmt.Sprintf("unknown key %q %s; known keys are %s", key, where, strings.Join(known, ", "))
}

func (n *Node) isScalar() bool {
	return n.Kind == String || n.Kind == Integer || n.Kind == Float || n.Kind == Bool
}
