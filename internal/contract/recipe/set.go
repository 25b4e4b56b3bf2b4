package recipe

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// set converts KEY=VALUE to a node that overrides a recipe. KEY is a path of keys: "vm.memory". An
// item of a list is selected by name: "services.web.user". KEY+=VALUE appends to a list. VALUE is
// the value as in the file, without quotes; its type is that of the key.
func set(assignment string, recipe *strictyaml.Node) (*strictyaml.Node, error) {
	key, value, ok := strings.Cut(assignment, "=")
	if !ok || strings.Trim(key, strictyaml.Append) == "" {
		return nil, fmt.Errorf("--set %s: must be KEY=VALUE, such as vm.memory=2GiB", assignment)
	}
	key, appends := strings.CutSuffix(key, strictyaml.Append)
	s := setter{name: "--set " + assignment, value: value, appends: appends}
	n, err := s.node(reflect.TypeFor[Recipe](), recipe, key, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return n, nil
}

type setter struct {
	name    string // of the assignment's document
	value   string
	appends bool
}

var (
	scalarType = reflect.TypeFor[strictyaml.ScalarUnmarshaler]()
	textType   = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// node returns the node for the rest of a key and the value, for a type. under is the existing
// node, or nil; path is the part of the key that was followed.
func (s *setter) node(t reflect.Type, under *strictyaml.Node, key, path string) (*strictyaml.Node, error) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if key == "" {
		return s.leaf(t, path)
	}
	switch {
	case reflect.PointerTo(t).Implements(scalarType) || reflect.PointerTo(t).Implements(textType):
	case t.Kind() == reflect.Struct:
		first, rest, _ := strings.Cut(key, ".")
		field, known := fieldOf(t, first)
		if field == nil {
			return nil, errors.New(strictyaml.UnknownKey(first, path, slices.Sorted(slices.Values(known))))
		}
		return s.pair(first, rest, field, under, path)
	case t.Kind() == reflect.Map: // its keys may contain dots
		return s.pair(key, "", t.Elem(), under, path)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		if _, known := fieldOf(t.Elem(), "name"); !slices.Contains(known, "name") {
			return nil, fmt.Errorf("the items of %s have no names: give %s the whole list", path, path)
		}
		return s.item(t.Elem(), under, key, path)
	}
	return nil, fmt.Errorf("%s has no keys below it, and %q was given", path, key)
}

func (s *setter) pair(key, rest string, t reflect.Type, under *strictyaml.Node, path string) (*strictyaml.Node, error) {
	var below *strictyaml.Node
	if under != nil {
		below = under.Get(key)
	}
	value, err := s.node(t, below, rest, strictyaml.Join(path, key))
	if err != nil {
		return nil, err
	}
	if s.appends && rest == "" {
		key += strictyaml.Append
	}
	place := strictyaml.Place{Name: s.name}
	return &strictyaml.Node{Place: place, Kind: strictyaml.Mapping, Pairs: []strictyaml.Pair{{Key: key, At: place, Value: value}}}, nil
}

// item returns a list with an item that is selected by name.
func (s *setter) item(t reflect.Type, under *strictyaml.Node, key, path string) (*strictyaml.Node, error) {
	name, rest, _ := strings.Cut(key, ".")
	var names []string
	var item *strictyaml.Node
	if under != nil {
		for _, i := range under.Items {
			if n := i.Get("name"); n != nil {
				names = append(names, n.Text)
				if n.Text == name {
					item = i
				}
			}
		}
	}
	if item == nil {
		return nil, unknownName(path, name, names)
	}
	if rest == "" || rest == "name" {
		return nil, fmt.Errorf("%s.%s: name a key of it, other than its name", path, name)
	}
	n, err := s.node(t, item, rest, path+"."+name)
	if err != nil {
		return nil, err
	}
	place := strictyaml.Place{Name: s.name}
	n.Pairs = append(n.Pairs, strictyaml.Pair{Key: "name", At: place, Value: &strictyaml.Node{Place: place, Kind: strictyaml.String, Text: name}})
	return &strictyaml.Node{Place: place, Kind: strictyaml.List, Items: []*strictyaml.Node{n}}, nil
}

// leaf returns the value with the type of its key: a text if the key needs one, else as YAML parses
// it.
func (s *setter) leaf(t reflect.Type, path string) (*strictyaml.Node, error) {
	text := &strictyaml.Node{Place: strictyaml.Place{Name: s.name}, Kind: strictyaml.String, Text: s.value}
	isText := t.Kind() == reflect.String || reflect.PointerTo(t).Implements(scalarType) || reflect.PointerTo(t).Implements(textType)
	if t.Kind() == reflect.Slice && !strings.HasPrefix(s.value, "[") {
		if !s.appends && !isText {
			return nil, fmt.Errorf("%s: must be a list, such as [a, b]; %s+=VALUE appends to the one that is there", path, path)
		}
		if !isText { // the only item of a list
			item, err := (&setter{name: s.name, value: s.value}).leaf(t.Elem(), path)
			return &strictyaml.Node{Place: text.Place, Kind: strictyaml.List, Items: []*strictyaml.Node{item}}, err
		}
	}
	if isText && t.Kind() != reflect.Slice || isText && !strings.HasPrefix(s.value, "[") {
		return text, nil
	}
	n, err := strictyaml.Parse(s.name, []byte(s.value))
	if err != nil || n == nil {
		return text, nil // the type returns its own error
	}
	unplace(n)
	return n, nil
}

// unplace removes line and column from positions on a command line.
func unplace(n *strictyaml.Node) {
	n.Position = strictyaml.Position{}
	for _, item := range n.Items {
		unplace(item)
	}
	for i := range n.Pairs {
		n.Pairs[i].At.Position = strictyaml.Position{}
		unplace(n.Pairs[i].Value)
	}
}

// fieldOf returns the type of a struct's key, or nil if it does not exist, and all keys that can be
// set.
func fieldOf(t reflect.Type, key string) (found reflect.Type, known []string) {
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("yaml")
		if name == "" || name == "-" || t == reflect.TypeFor[Recipe]() && slices.Contains(compositionKeys, name) {
			continue
		}
		known = append(known, name)
		if name == key {
			found = t.Field(i).Type
		}
	}
	return found, known
}
