package crosscompile

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"

	"github.com/sovereign-sql/sov/internal/testkit/goproxytest"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/store"
)

const program = "package main\n\nvar release = \"none\"\n\nfunc main() { println(release) }\n"

// tiny is a version of a module with sov-init and sov-runner. The go command can download it.
type tiny struct {
	module.Version
	proxy, root, sum string
}

// newTiny also sets variables of the go command that must not change the programs.
func newTiny(t *testing.T) *tiny {
	t.Helper()
	v := &tiny{Version: module.Version{Path: "example.com/tiny", Version: "v1.2.3"}, proxy: t.TempDir(), root: t.TempDir()}
	v.serve(t, program)
	for name, value := range map[string]string{
		"GOPROXY": goproxytest.URL(v.proxy), "GONOSUMDB": "example.com", "GOMODCACHE": t.TempDir(),
		"GOFLAGS": "-modcacherw -tags=other -gcflags=-N", "GOAMD64": "v3", "GOARM64": "v9.0", "GOEXPERIMENT": "arenas",
	} {
		t.Setenv(name, value)
	}
	return v
}

// serve makes the proxy serve these sources.
func (v *tiny) serve(t *testing.T, text string) {
	t.Helper()
	version := strings.TrimSpace(goOutput(t, "env", "GOVERSION"))
	names := []string{"go.mod", "cmd/sov-init/main.go", "cmd/sov-runner/main.go"}
	for _, name := range names {
		content := text
		if name == "go.mod" {
			content = "module " + v.Path + "\n\ngo 1.24\n\ntoolchain " + version + "\n"
		}
		path := filepath.Join(v.root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	goproxytest.Add(t, v.proxy, v.Version, v.root, names)
	zip := filepath.Join(v.proxy, v.Path, "@v", v.Version.Version+".zip")
	var err error
	if v.sum, err = dirhash.HashZip(zip, dirhash.Hash1); err != nil {
		t.Fatal(err)
	}
}

func goOutput(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// build runs a stage of the module and returns the program.
func (v *tiny) build(t *testing.T, cache *store.Store, name, arch string) ([]byte, pipeline.Status, error) {
	t.Helper()
	result, err := (&pipeline.Engine{Store: cache}).Build(t.Context(), []pipeline.Stage{
		&Stage{Program: name, Arch: arch, Module: v.Version, Sum: v.sum}})
	if err != nil {
		return nil, "", err
	}
	blob, err := result.Output(name, name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := cache.Open(blob)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return content, result.Stage(name).Status, nil
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	cache, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

// TestModuleAndCheckout compiles the same sources from a module's zip and from a folder.
func TestModuleAndCheckout(t *testing.T) {
	v := newTiny(t)
	cache := openStore(t)
	for _, name := range Programs {
		for arch, machine := range map[string]elf.Machine{"arm64": elf.EM_AARCH64, "amd64": elf.EM_X86_64} {
			fromZip, status, err := v.build(t, cache, name, arch)
			if err != nil || status != pipeline.Built {
				t.Fatalf("%s for %s: %v, %v", name, arch, status, err)
			}
			output := filepath.Join(t.TempDir(), name)
			if err := Program(t.Context(), false, v.root, name, arch, v.Version.Version, output, func(string) {}); err != nil {
				t.Fatal(err)
			}
			if inFolder, err := os.ReadFile(output); err != nil || !bytes.Equal(fromZip, inFolder) {
				t.Errorf("%s for %s: the module's zip and a folder make two programs (%v)", name, arch, err)
			}
			file, err := elf.NewFile(bytes.NewReader(fromZip))
			if err != nil || file.Machine != machine {
				t.Fatalf("%s for %s: %v, %v", name, arch, file, err)
			}
			info, err := buildinfo.Read(bytes.NewReader(fromZip))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range info.Settings {
				if s.Key == "GOAMD64" && s.Value != "v1" || s.Key == "GOARM64" && s.Value != "v8.0" || s.Key == "GOEXPERIMENT" || s.Key == "-gcflags" {
					t.Errorf("%s for %s was compiled with the user's %s=%s", name, arch, s.Key, s.Value)
				}
			}
			if has := bytes.Contains(fromZip, []byte(v.Version.Version)); has != (name == "sov-runner") {
				t.Errorf("%s tells its release: %v", name, has)
			}
		}
	}
	// A cached program requires neither the network nor Go.
	t.Setenv("GOPROXY", "off")
	t.Setenv("PATH", t.TempDir())
	if _, status, err := v.build(t, cache, "sov-init", "arm64"); err != nil || status != pipeline.Cached {
		t.Errorf("the second time: %v, %v", status, err)
	}
	if _, _, err := v.build(t, openStore(t), "sov-init", "arm64"); err == nil || !strings.Contains(err.Error(), "install Go") {
		t.Errorf("without Go: %v", err)
	}
}

// TestOtherSources: the proxy serves other sources than those that sov was compiled from.
func TestOtherSources(t *testing.T) {
	v := newTiny(t)
	sum := v.sum
	v.serve(t, program+"\n// changed\n")
	v.sum = sum
	if _, _, err := v.build(t, openStore(t), "sov-init", "arm64"); err == nil || !strings.Contains(err.Error(), "the module proxy serves other sources") {
		t.Errorf("other sources: %v", err)
	}
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOMODCACHE", t.TempDir())
	if _, _, err := v.build(t, openStore(t), "sov-init", "arm64"); err == nil || !strings.Contains(err.Error(), "fetch example.com/tiny@v1.2.3") {
		t.Errorf("without the module: %v", err)
	}
}

// TestToolchain requests a toolchain that does not exist.
func TestToolchain(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/tiny\n\ngo 1.24\n\ntoolchain go1.26.999\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := Program(t.Context(), false, dir, "sov-init", "arm64", "", filepath.Join(dir, "sov-init"), func(string) {})
	if err == nil || !strings.Contains(err.Error(), "toolchain go1.26.999") || !strings.Contains(err.Error(), "install it from") {
		t.Errorf("a toolchain that does not exist: %v", err)
	}
	// Go before 1.21 ignores GOTOOLCHAIN.
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n[ \"$*\" != \"env GOVERSION\" ] || exec echo go1.19.8\nexec %q \"$@\"\n", goCommand)
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	err = Program(t.Context(), false, dir, "sov-init", "arm64", "", filepath.Join(dir, "sov-init"), func(string) {})
	if err == nil || !strings.Contains(err.Error(), "is go1.19.8") {
		t.Errorf("with an old Go: %v", err)
	}
}
