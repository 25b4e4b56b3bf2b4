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
		{"machines: [{recipe: a.yaml, set: [name=z]}, {recipe: a.yaml, after: [z], profiles: [big]}]", "z a", ""},
		{"machines: [{recipe: a.yaml, profiles: [bigg]}]", "", `did you mean "big"?`},
		{"machines: [{recipe: a.yaml, set: ['secrets=[{name: x, from: b/db}]']}, {recipe: b.yaml}]", "", "1:12: machines[0]: a: secrets: x is b/db: secret \"db\": the recipe b uses no secrets"},
		{"machines: [{recipe: a.yaml, set: ['secrets=[{name: x, from: b/db}]']}, {recipe: b.yaml, set: ['secrets=[{name: db}]']}]", "a b", ""},
		{"machines: [{recipe: a.yaml, set: ['secrets=[{name: x, from: elsewhere/db}]']}]", "a", ""},
	} {
		dir := t.TempDir()
		for _, name := range []string{"a", "b", "c"} {
			write(t, filepath.Join(dir, name+".yaml"), "name: "+name+"\nbase: {image: alpine}\nprofiles: {big: {vm: {cpus: 4}}}\n")
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

// TestExamples: the example groups are valid.
func TestExamples(t *testing.T) {
	g, err := Load("../../../examples/home.yaml")
	if err != nil || g == nil || strings.Join(g.Names(), " ") != "sql forge vault" || strings.Join(g.Machines[2].After, " ") != "sql" {
		t.Errorf("%+v, %v", g, err)
	}
}

// TestKept: Kept omits machines without data.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	for name, more := range map[string]string{"a": "", "b": "postgres: {enabled: true}\n", "c": "services: [{name: c, command: [/c], directories: [{path: /data/c}], backup: {paths: [/data/c]}}]\n"} {
		write(t, filepath.Join(dir, name+".yaml"), "name: "+name+"\nbase: {image: alpine}\n"+more)
	}
	for text, want := range map[string]string{"{recipe: a.yaml}, {recipe: b.yaml}, {recipe: c.yaml}": "b c", "{recipe: a.yaml}": ""} {
		write(t, filepath.Join(dir, "home.yaml"), "machines: ["+text+"]\n")
		g, err := Load(filepath.Join(dir, "home.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := g.Kept()
		if (err == nil) != (want != "") || err == nil && strings.Join(kept.Names(), " ") != want {
			t.Errorf("%s: %v, %v", text, kept, err)
		}
	}
}

// TestBackups: a folder can hold one backup of the group. Only a complete backup is returned.
func TestBackups(t *testing.T) {
	g := &Group{Name: "home", Machines: []Machine{{Name: "sql"}, {Name: "forge"}}}
	folder := filepath.Join(t.TempDir(), "backups", "monday")
	for range 2 { // an empty folder may exist
		if err := g.MakeFolder(folder); err != nil {
			t.Fatal(err)
		}
	}
	write(t, Archive(folder, "sql", false), "")
	if err := g.MakeFolder(folder); err == nil || !strings.Contains(err.Error(), "sql.zip is there already: name another folder") {
		t.Errorf("a folder that has one: %v", err)
	}
	if paths, err := g.Archives(folder); err == nil || !strings.Contains(err.Error(), "forge.zip") || !strings.Contains(err.Error(), "is not whole") {
		t.Errorf("a part of a backup: %q, %v", paths, err)
	}
	write(t, Archive(folder, "forge", true), "")
	if paths, err := g.Archives(folder); err != nil || strings.Join(paths, " ") != folder+"/sql.zip "+folder+"/forge.zip.age" {
		t.Errorf("%q, %v", paths, err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
