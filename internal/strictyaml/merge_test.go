package strictyaml

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func parsed(t *testing.T, name, src string) *Node {
	t.Helper()
	n, err := Parse(name, []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMerge(t *testing.T) {
	for name, c := range map[string]struct{ under, over, want string }{
		"mappings merge":            {"a: {x: 1, w: 2}\nb: 1", "a: {w: 3}\nc: 4", "a:\n  x: 1\n  w: 3\nb: 1\nc: 4\n"},
		"lists of scalars replace":  {"a: [1, 2]", "a: [3]", "a: [3]\n"},
		"an empty list empties":     {"a: [{name: x}]", "a: []", "a: []\n"},
		"appended":                  {"a: [1, 2]", "a+: [3]", "a: [1, 2, 3]\n"},
		"appended to nothing":       {"b: 1", "a+: [3]", "b: 1\na: [3]\n"},
		"replaced and appended":     {"a: [1]", "a: [2]\na+: [3]", "a: [2, 3]\n"},
		"by name":                   {"a: [{name: x, u: 1}, {name: w}]", "a: [{name: z}, {name: x, u: 2}]", "a:\n  - name: x\n    u: 2\n  - name: w\n  - name: z\n"},
		"by path":                   {"a: [{path: /x, u: 1}]", "a: [{path: /x, u: 2}, {path: /y}]", "a:\n  - path: /x\n    u: 2\n  - path: /y\n"},
		"without a name":            {"a: [{u: 1}]", "a: [{u: 2}]", "a:\n  - u: 2\n"},
		"a name on one side":        {"a: [80]", "a: [{name: x}]", "a:\n  - name: x\n"},
		"appended below a new name": {"a: [{name: x}]", "a: [{name: w, l+: [1]}]", "a:\n  - name: x\n  - name: w\n    l: [1]\n"},
		"a mapping in its place":    {"a: 1", "a: {b: 2}", "a:\n  b: 2\n"},
		"a scalar in its place":     {"a: {b: 2}", "a: image", "a: image\n"},
	} {
		t.Run(name, func(t *testing.T) {
			under, over := parsed(t, "u", c.under), parsed(t, "o", c.over)
			got, err := Merge(under, over)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Encode()) != c.want {
				t.Errorf("got\n%swant\n%s", got.Encode(), c.want)
			}
			if before := parsed(t, "u", c.under); string(under.Encode()) != string(before.Encode()) {
				t.Errorf("the node below has become\n%s", under.Encode())
			}
		})
	}
}

func TestMergeFaults(t *testing.T) {
	_, err := Merge(parsed(t, "u", "a: 1"), parsed(t, "o", "b+: 7\na+: [1]"))
	want := "o:1:5: b+: appends to a list, and this is not a list\no:2:5: a+: appends to a list, and this is not a list"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// TestFaultsOfSeveral verifies that an error names the document of the value.
func TestFaultsOfSeveral(t *testing.T) {
	n, err := Merge(parsed(t, "under.yaml", "count: x\nlist:\n  - key: 1"), parsed(t, "over.yaml", "\nnmae: y"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = DecodeNode("over.yaml", n, &document{})
	want := "over.yaml:2:1: unknown key \"nmae\" at the top level; did you mean \"name\"?\n" +
		"under.yaml:1:8: count: expected a whole number, found the string \"x\"\n" +
		"under.yaml:3:10: list[0].key: expected a string, found the number 1"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestEncode(t *testing.T) {
	const src = `name: "1.0"
yes: "yes"
lines: |
  one
    two

  three
open: "no line break\nat the end"
empty: ["", {}, [], 0x10, 1.50, true]
long: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, cccccccccccccccccccccccccccccccccc]
deep: [[/bin/x, "a: b", "#c"], [{a: [{b: "ü\t\u0001"}]}]]
`
	n := parsed(t, "d", src)
	back := parsed(t, "encoded", string(n.Encode()))
	if !same(n, back) {
		t.Errorf("became\n%s", n.Encode())
	}
	if !strings.Contains(string(n.Encode()), "lines: |\n  one\n    two\n\n  three\n") {
		t.Errorf("lines became\n%s", n.Encode())
	}
	text, err := json.Marshal(n)
	want := `{"name":"1.0","yes":"yes","lines":"one\n  two\n\nthree\n","open":"no line break\nat the end","empty":["",{},[],16,1.50,true],`
	if err != nil || !strings.HasPrefix(string(text), want) {
		t.Errorf("JSON: %s, %v", text, err)
	}
}

func same(a, b *Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Kind != b.Kind || a.Text != b.Text || len(a.Items) != len(b.Items) || len(a.Pairs) != len(b.Pairs) {
		return false
	}
	for i := range a.Items {
		if !same(a.Items[i], b.Items[i]) {
			return false
		}
	}
	for i := range a.Pairs {
		if a.Pairs[i].Key != b.Pairs[i].Key || !same(a.Pairs[i].Value, b.Pairs[i].Value) {
			return false
		}
	}
	return true
}

// FuzzEncode verifies that any strings, as keys and as values, are decoded as they were encoded.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "a b", "- x", "|", "a\n b\n", "a\n\n", "\n", "yes", "null", "true", "0x1", "~", "a: b", "é\u2028", "a \n", "<<", "!x", "%", "\ta\n"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		defer costtest.Text.Watch(t, len(key)+len(value))()
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			t.Skip("JSON has no such strings")
		}
		text := &Node{Kind: String, Text: value}
		n := &Node{Kind: Mapping, Pairs: []Pair{{Key: "k" + key, Value: text}, {Key: "list", Value: &Node{Kind: List, Items: []*Node{text, {Kind: Mapping, Pairs: []Pair{{Key: "a", Value: text}}}}}}}}
		back, err := Parse("encoded", n.Encode())
		if err != nil || !same(n, back) {
			t.Errorf("%v: became\n%s", err, n.Encode())
		}
	})
}
