package group

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	for _, tt := range []struct{ text, names, says string }{
		{"machines: [{recipe: c.yaml, after: [a, b]}, {recipe: ./b.yaml, after: [a]}, {recipe: a.yaml}]", "a b c", ""},
		{"machines: [{recipe: b.yaml}, {recipe: a.yaml}]", "b a", ""},
		{"machines: [{recipe: a.yaml, after: [b]}, {recipe: b.yaml, after: [a]}]", "", "wait for each other in a circle"},
		{"machines: [{recipe: a.yaml, after: [x]}]", "", `1:37: machines[0].after[0]: "x" is not a machine of this group`},
		{"machines: [{recipe: a.yaml}, {recipe: ./a.yaml}]", "", "a machine a is listed twice"},
		{"machines: [{after: []}]", "", "names no recipe"},
		{"machines: [{recipe: none.yaml}]", "", "none.yaml"},
		{"machines: [{recipe: a.yaml, afterr: [b]}]", "", `did you mean "after"?`},
		{"name: Home\nmachines: []", "", "is not the name of a machine"},
	} {
		dir := t.TempDir()
		for _, name := range []string{"a", "b", "c"} {
			write(t, filepath.Join(dir, name+".yaml"), "name: "+name+"\nbase: {image: alpine}\n")
		}
		path := filepath.Join(dir, "home.yaml")
		write(t, path, tt.text)
		g, err := Load(path)
		if tt.says != "" {
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: got %v, want %q", tt.text, err, tt.says)
			}
			continue
		}
		if err != nil || g == nil || g.Name != "home" || strings.Join(g.Names(), " ") != tt.names {
			t.Errorf("%s: %+v, %v", tt.text, g, err)
		}
		for _, other := range []string{filepath.Join(dir, "a.yaml"), "sql", filepath.Join(dir, "none.yaml")} {
			if g, err := Load(other); g != nil || err != nil {
				t.Errorf("%s: %v, %v", other, g, err)
			}
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
