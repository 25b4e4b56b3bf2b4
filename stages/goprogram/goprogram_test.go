package goprogram

import (
	"archive/tar"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/store"
	"github.com/sovereign-sql/sov/stages/output"
)

// put writes files below a folder.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// publish puts a module into a proxy's folder.
func publish(t *testing.T, proxy string, m module.Version, files map[string]string) {
	t.Helper()
	src := t.TempDir()
	put(t, src, files)
	at := filepath.Join(proxy, m.Path, "@v")
	put(t, at, map[string]string{m.Version + ".mod": files["go.mod"], m.Version + ".info": `{"Version":"` + m.Version + `"}`})
	w, err := os.Create(filepath.Join(at, m.Version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(modzip.CreateFromDir(w, m, src), w.Close()); err != nil {
		t.Fatal(err)
	}
}

const program = `package main

import (
	"fmt"

	"example.org/greet"
)

func main() { fmt.Println(greet.Word()) }
`

// world makes a module proxy with example.org/greet and a program that uses it, and returns the
// proxy's folder. The go command can use no other modules.
func world(t *testing.T) string {
	t.Helper()
	proxy := t.TempDir()
	cache := t.TempDir()
	for name, value := range map[string]string{"GOPROXY": "file://" + proxy, "GOSUMDB": "off", "GOMODCACHE": cache, "GOFLAGS": "-modcacherw"} {
		t.Setenv(name, value)
	}
	publish(t, proxy, module.Version{Path: "example.org/greet", Version: "v1.0.0"}, map[string]string{
		"go.mod": "module example.org/greet\n\ngo 1.21\n", "greet.go": "package greet\n\nfunc Word() string { return word }\n",
		"plain.go": "//go:build !loud\n\npackage greet\n\nconst word = \"hello\"\n", "loud.go": "//go:build loud\n\npackage greet\n\nconst word = \"HELLO\"\n"})
	// Programs need the go.sum that `go mod tidy` writes.
	src := t.TempDir()
	put(t, src, map[string]string{"go.mod": "module example.org/app\n\ngo 1.21\n\nrequire example.org/greet v1.0.0\n", "cmd/app/main.go": program})
	tidy := exec.Command("go", "mod", "tidy")
	tidy.Dir = src
	if out, err := tidy.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files := map[string]string{"cmd/app/main.go": program}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	publish(t, proxy, module.Version{Path: "example.org/app", Version: "v0.1.0"}, files)
	put(t, filepath.Join(proxy, "folder"), files) // for Source
	return proxy
}

// build runs the stage and returns the programs by their paths.
func build(t *testing.T, o Options) (map[string]string, *Info, error) {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	result, err := (&pipeline.Engine{Store: s, Deliver: []string{Name}}).Build(t.Context(), []pipeline.Stage{New(o)})
	if err != nil {
		return nil, nil, err
	}
	of := output.Of(result, s)
	b, ok := output.Find(of, Name, "go.tar")
	if !ok {
		t.Fatal("the stage has no share")
	}
	r, err := s.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	files := map[string]string{}
	for members := tar.NewReader(r); ; {
		h, err := members.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if h.Mode != 0o755 || h.Uid != 0 {
			t.Errorf("%s has mode %o and owner %d", h.Name, h.Mode, h.Uid)
		}
		path := filepath.Join(t.TempDir(), "program")
		content, err := io.ReadAll(members)
		if err = errors.Join(err, os.WriteFile(path, content, 0o755)); err != nil {
			t.Fatal(err)
		}
		files["/"+h.Name] = path
	}
	var info Info
	if err := output.ReadJSON(of, Name, InfoOutput, &info); err != nil {
		t.Fatal(err)
	}
	return files, &info, nil
}

// locked adds the lock's entries of the programs.
func locked(t *testing.T, o Options) Options {
	t.Helper()
	for _, p := range o.Programs {
		sum, err := Sum(t.Context(), o, p)
		if err != nil {
			t.Fatal(err)
		}
		o.Locked = append(o.Locked, lock.RecipeFile{Path: p.Output, Source: lock.GoPrefix + p.From(), SHA256: sum})
	}
	return o
}

// TestPrograms compiles a program of a module and of a folder, for this computer, and runs them.
func TestPrograms(t *testing.T) {
	proxy := world(t)
	o := locked(t, Options{Arch: "amd64", Dir: proxy, Programs: []recipe.GoProgram{
		{Output: "/usr/bin/app", Module: "example.org/app", Version: "v0.1.0", Package: "cmd/app"},
		{Output: "/usr/bin/loud", Source: "folder", Package: "cmd/app", Tags: []string{"loud"}},
	}})
	if o.Locked[0].SHA256 == o.Locked[1].SHA256 || len(o.Locked[0].SHA256) != 64 {
		t.Errorf("sums %v", o.Locked)
	}
	programs, info, err := build(t, o)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/usr/bin/app": "hello\n", "/usr/bin/loud": "HELLO\n"} {
		f, err := elf.Open(programs[path])
		if err != nil {
			t.Fatal(err)
		}
		if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 || f.Machine != elf.EM_X86_64 {
			t.Errorf("%s needs %v: %v", path, libraries, err)
		}
		f.Close()
		if out, err := exec.Command(programs[path]).CombinedOutput(); err == nil && string(out) != want {
			t.Errorf("%s prints %s", path, out)
		}
	}
	if len(info.Modules) != 2 || info.Modules[0].Path != "example.org/greet" || !strings.HasPrefix(info.Modules[0].Sum, "h1:") {
		t.Errorf("%+v", info)
	}
	t.Run("offline from a bundle", func(t *testing.T) { offlineBuild(t, o) })
}

// TestRefused rejects sources that differ from the lock.
func TestRefused(t *testing.T) {
	proxy := world(t)
	o := locked(t, Options{Arch: "arm64", Dir: proxy, Programs: []recipe.GoProgram{{Output: "/usr/bin/app", Source: "folder", Package: "cmd/app"}}})
	put(t, filepath.Join(proxy, "folder"), map[string]string{"cmd/app/more.go": "package main\n"})
	if _, _, err := build(t, o); err == nil || !strings.Contains(err.Error(), "folder has the checksum") || !strings.Contains(err.Error(), "--update files") {
		t.Errorf("a changed folder: %v", err)
	}
	// Another module under the same version.
	o = locked(t, Options{Arch: "arm64", Dir: proxy, Programs: []recipe.GoProgram{{Output: "/usr/bin/app", Module: "example.org/app", Version: "v0.1.0", Package: "cmd/app"}}})
	o.Locked[0].SHA256 = strings.Repeat("0", 64)
	if _, _, err := build(t, o); err == nil || !strings.Contains(err.Error(), "example.org/app@v0.1.0 has the checksum") {
		t.Errorf("another module: %v", err)
	}
	// Another module as a dependency.
	o = locked(t, Options{Arch: "arm64", Dir: proxy, Programs: []recipe.GoProgram{{Output: "/usr/bin/app", Module: "example.org/app", Version: "v0.1.0", Package: "cmd/app"}}})
	t.Setenv("GOMODCACHE", t.TempDir())
	publish(t, proxy, module.Version{Path: "example.org/greet", Version: "v1.0.0"}, map[string]string{
		"go.mod": "module example.org/greet\n\ngo 1.21\n", "greet.go": "package greet\n\nfunc Word() string { return \"evil\" }\n"})
	if _, _, err := build(t, o); err == nil || !strings.Contains(err.Error(), "checksum mismatch") {
		t.Errorf("another module below: %v", err)
	}
	// A library.
	o = locked(t, Options{Arch: "arm64", Dir: proxy, Programs: []recipe.GoProgram{{Output: "/usr/bin/app", Module: "example.org/greet", Version: "v1.0.0"}}})
	if _, _, err := build(t, o); err == nil || !strings.Contains(err.Error(), "is not a program") {
		t.Errorf("a library: %v", err)
	}
}
