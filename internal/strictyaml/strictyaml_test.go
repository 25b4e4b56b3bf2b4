package strictyaml

import (
	"errors"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

type document struct {
	Name  string            `yaml:"name"`
	Count int32             `yaml:"count"`
	On    bool              `yaml:"on"`
	List  []item            `yaml:"list"`
	Map   map[string]scalar `yaml:"map"`
	Ptr   *item             `yaml:"ptr"`
}

type item struct {
	Key string `yaml:"key"`
}

type scalar string

func (s *scalar) UnmarshalScalar(text string) error {
	if text == "bad" {
		return errors.New("is bad")
	}
	*s = scalar(text)
	return nil
}

func TestDecode(t *testing.T) {
	const src = `name: "1.0"
count: 0x10
on: true
list:
  - key: a
  - {key: 'b'}
map: {float: 1.50, int: 007, bool: true, text: "x", block: y}
ptr:
  key: |
    two
    lines
`
	v := document{}
	doc, err := Decode("d.yaml", []byte(src), &v)
	if err != nil {
		t.Fatal(err)
	}
	if v.Name != "1.0" || v.Count != 16 || !v.On || len(v.List) != 2 || v.List[1].Key != "b" || v.Ptr.Key != "two\nlines\n" {
		t.Errorf("got %+v", v)
	}
	for key, want := range map[string]scalar{"float": "1.50", "int": "007", "bool": "true", "text": "x", "block": "y"} {
		if v.Map[key] != want {
			t.Errorf("map.%s is %q, written %q", key, v.Map[key], want)
		}
	}
	for path, want := range map[string]Position{
		"name": {1, 7}, "list[1].key": {6, 11}, "ptr.key": {9, 8}, "map.int": {7, 25},
		"list[1].key.deeper": {6, 11}, "nowhere": {1, 1},
	} {
		if got := doc.Position(path); got != want {
			t.Errorf("%s is at %v, want %v", path, got, want)
		}
	}
}

func TestKeepsWhatIsAbsent(t *testing.T) {
	v := document{Name: "kept", Ptr: &item{"kept too"}}
	if _, err := Decode("d.yaml", []byte("count: 1\nptr: {}\n"), &v); err != nil {
		t.Fatal(err)
	}
	if v.Name != "kept" || v.Ptr.Key != "kept too" {
		t.Errorf("got %+v", v)
	}
}

func TestFaultsAreInOrder(t *testing.T) {
	v := document{}
	doc, err := Decode("d.yaml", []byte("map: {x: bad}\ncount: 3000000000\nnmae: x\n"), &v)
	if err == nil {
		t.Fatal("no error")
	}
	doc.Faultf("map.x", "is odd as well")
	want := "d.yaml:1:10: map.x: is bad\nd.yaml:1:10: map.x: is odd as well\n" +
		"d.yaml:2:8: count: 3000000000 is out of range\nd.yaml:3:1: unknown key \"nmae\" at the top level; did you mean \"name\"?"
	if got := doc.Err().Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var one *Error
	if !errors.As(err, &one) || one.Line != 1 {
		t.Errorf("errors.As finds %+v", one)
	}
}

func TestBounds(t *testing.T) {
	v := document{}
	for name, src := range map[string]string{
		"large":  strings.Repeat("# comment\n", maxSize/10+1),
		"deep":   "list: " + strings.Repeat("[", 500) + strings.Repeat("]", 500),
		"abyss":  "list: " + strings.Repeat("[", maxSize-10), // takes days without a limit
		"dashes": strings.Repeat("- ", maxSize/2-10),
		"nested": "ptr: " + strings.Repeat("{key: ", 500) + strings.Repeat("}", 500),
	} {
		if _, err := Decode(name, []byte(src), &v); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"memory", "cpus", "data", "name"}
	for word, want := range map[string]string{"memry": "memory", "mmeory": "memory", "meomry": "memory", "cpu": "cpus", "dat": "data",
		"nmae": "name", "processors": "", "": "", strings.Repeat("x", 1000): ""} {
		if got := Nearest(word, known); got != want {
			t.Errorf("%.20q: got %q, want %q", word, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("name: x\nlist: [{key: a}]\nmap: {a: 1}\n"))
	f.Add([]byte("&a [*a]: !!x {<<: *a}\n? - b\n: |+\n  c\n...\n---\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		defer costtest.Text.Watch(t, len(src))()
		v := document{}
		doc, err := Decode("fuzz", src, &v)
		if doc == nil || (err != nil) != (doc.Err() != nil) {
			t.Errorf("document %v, error %v", doc, err)
		}
	})
}
