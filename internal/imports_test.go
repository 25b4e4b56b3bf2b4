// Package internal has tests of rules for the whole repository: which packages may import which,
// how files are written, the width and the words of comments.
package internal

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/sovereign-sql/sov/"
	cobra  = "github.com/spf13/cobra"
)

// small are the libraries that all packages may import.
var small = []string{"internal/arch", "internal/bound", "internal/chunk", "internal/confine", "internal/durable", "internal/fetch", "internal/finding", "internal/sntp", "internal/strictjson", "internal/strictyaml"}

// rooms list the folders that the packages of a folder may import, in addition to that folder. The
// first match counts.
var rooms = []struct {
	folder string
	may    []string
}{
	{"internal/image", small},
	{"internal/artifact", slices.Concat(small, []string{"internal/contract", "internal/image"})},
	{"internal/contract", slices.Concat(small, []string{"internal/artifact", "internal/image"})},
	{"internal/host", slices.Concat(small, []string{"internal/artifact", "internal/contract", "internal/image", "pipeline", "stages", "assets", "kernel"})},
	{"internal/phone", slices.Concat(small, []string{"internal/artifact", "internal/contract", "internal/image"})},
	{"internal/guest", slices.Concat(small, []string{"internal/artifact", "internal/contract", "internal/image"})},
	{"internal/testkit", []string{"internal", "pipeline", "stages", "assets", "kernel"}},
	{"internal/e2e", []string{"internal", "pipeline", "stages", "assets", "kernel"}},
	{"pipeline", small},
	{"stages", slices.Concat(small, []string{"internal/artifact", "internal/contract", "internal/image", "pipeline", "assets", "kernel"})},
	{"assets", nil},
	{"kernel", []string{"internal/image"}},
	{"cmd/sov-mirror", []string{"internal"}},
	{"cmd/sov-simulator", []string{"internal"}},
	{"cmd", slices.Concat(small, []string{"internal/artifact", "internal/contract", "internal/image", "internal/host", "internal/phone", "internal/guest",
		"pipeline", "stages", "assets", "kernel"})},
}

// below reports whether a package is in the folder or below it.
func below(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

// forbidden returns why a package may not import another package of the project, or "".
func forbidden(pkg, imported string) string {
	if imported == cobra {
		if below(pkg, "cmd") {
			return ""
		}
		return "commands and flags are cmd's"
	}
	if below(imported, "cmd") {
		return "nothing imports cmd"
	}
	if slices.Contains(small, pkg) {
		return "a small library imports nothing of the project"
	}
	for _, room := range rooms {
		if !below(pkg, room.folder) {
			continue
		}
		if below(imported, room.folder) || slices.ContainsFunc(room.may, func(folder string) bool { return below(imported, folder) }) {
			return ""
		}
		return fmt.Sprintf("%s may import %s", room.folder, strings.Join(append([]string{"itself"}, room.may...), ", "))
	}
	return "it stands in none of the rooms: see docs/architecture.md"
}

// An edge is an import between two packages of the project, by their folders.
type edge struct{ from, to string }

// imports lists the imports of every package, including those of nested modules, with the go
// command.
func imports(t *testing.T) (edges []edge) {
	t.Helper()
	for _, dir := range modules(t) {
		command := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
		command.Dir = dir
		out, err := command.Output()
		if err != nil {
			t.Fatalf("go list in %s: %v", dir, err)
		}
		for list := json.NewDecoder(bytes.NewReader(out)); ; {
			var pkg struct {
				ImportPath string
				Imports    []string
			}
			if err := list.Decode(&pkg); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			for _, path := range pkg.Imports {
				if to, ours := strings.CutPrefix(path, module); ours || path == cobra {
					edges = append(edges, edge{strings.TrimPrefix(pkg.ImportPath, module), to})
				}
			}
		}
	}
	if len(edges) < 200 {
		t.Errorf("only %d imports were found: did it look at all?", len(edges))
	}
	return edges
}

func TestImports(t *testing.T) {
	for _, e := range imports(t) {
		if why := forbidden(e.from, e.to); why != "" {
			t.Errorf("%s imports %s: %s", e.from, e.to, why)
		}
	}
}

// TestProgramsLeaveTesting: the programs of cmd do not depend on package testing.
func TestProgramsLeaveTesting(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./cmd/...")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		pkg, imports, _ := strings.Cut(strings.TrimSpace(line), " ")
		if slices.Contains(strings.Fields(imports), "testing") {
			t.Errorf("%s imports testing, and a program of cmd depends on it: take a session.T", pkg)
		}
	}
}

// drawn are the folders in the drawing of docs/architecture.md. It shows the small libraries as
// one.
var drawn = []string{"cmd/sov", "cmd/sov-runner", "cmd/sov-init", "cmd/sov-mirror", "cmd/sov-simulator", "internal/host", "internal/phone", "internal/guest", "stages", "pipeline",
	"internal/artifact", "internal/contract", "internal/image", "kernel", "assets", "internal/testkit"}

const libraries = "small libraries"

// place returns a package's place in the drawing, or "".
func place(pkg string) string {
	if slices.Contains(small, pkg) {
		return libraries
	}
	if i := slices.IndexFunc(drawn, func(folder string) bool { return below(pkg, folder) }); i >= 0 {
		return drawn[i]
	}
	return ""
}

// drawing returns a line for each place with its imports.
func drawing(edges []edge) string {
	var b strings.Builder
	for _, from := range drawn {
		var to []string
		for _, other := range append(slices.Clone(drawn), libraries) {
			if other != from && slices.ContainsFunc(edges, func(e edge) bool { return place(e.from) == from && place(e.to) == other }) {
				to = append(to, strings.TrimPrefix(other, "internal/"))
			}
		}
		if len(to) == 0 {
			to = []string{"nothing"}
		}
		fmt.Fprintf(&b, "    %-17s ─► %s\n", strings.TrimPrefix(from, "internal/"), strings.Join(to, ", "))
	}
	return b.String()
}

var update = flag.Bool("update", false, "rewrite the drawing in docs/architecture.md")

// TestDrawing compares the drawing of docs/architecture.md with the imports.
func TestDrawing(t *testing.T) {
	const path, begin, end = "../docs/architecture.md", "<!-- what imports what: begin -->\n", "<!-- what imports what: end -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no lines %s and %s", path, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	want := "\n" + drawing(imports(t)) + "\n"
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("%s draws\n%s\nand the code is\n%s\n(go test ./internal -update rewrites it)", path, got, want)
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// modules returns the folders with a go.mod.
func modules(t *testing.T) (dirs []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "go.mod" {
			dirs = append(dirs, filepath.Dir(path))
		}
		if err == nil && d.IsDir() && (d.Name() == "out" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("../go.mod"); err != nil || len(dirs) < 3 {
		t.Fatalf("found the modules %q, %v", dirs, err)
	}
	return dirs
}

func TestForbiddenImports(t *testing.T) {
	for _, tt := range []struct {
		pkg, imported string
		ok            bool
	}{
		{"internal/host/push", "internal/phone/slots", false},
		{"internal/phone/daemon", "internal/host/device", false},
		{"internal/phone/daemon", "internal/guest/boot", false},
		{"internal/guest/boot", "internal/phone/daemon", false},
		{"internal/guest/boot", "stages", false},
		{"internal/contract/recipe", "internal/host/push", false},
		{"internal/artifact/manifest", "stages/bundle", false},
		{"internal/image/ext4", "internal/artifact/manifest", false},
		{"internal/image/ext4", "internal/image/tree", true},
		{"internal/chunk", "internal/fetch", false},
		{"pipeline/store", "internal/contract/lock", false},
		{"pipeline/remote", "internal/fetch", true},
		{"stages/rootfs", "internal/host/push", false},
		{"stages/rootfs", "internal/image/ext4", true},
		{"internal/host/push", "cmd/sov", false},
		{"internal/testkit/sovtest", "cmd/sov", false},
		{"internal/host/push", "internal/testkit/mirror", false},
		{"cmd/sov", "internal/testkit/mirror", false},
		{"cmd/sov-mirror", "internal/testkit/mirror", true},
		{"internal/host/push", cobra, false},
		{"cmd/sov", cobra, true},
		{"internal/somewhere", "internal/fetch", false},
	} {
		if why := forbidden(tt.pkg, tt.imported); (why == "") != tt.ok {
			t.Errorf("%s imports %s: %q", tt.pkg, tt.imported, why)
		}
	}
}
