// Package goproxytest makes Go module proxies from folders, for tests of downloads by the go
// command (https://go.dev/ref/mod#goproxy-protocol).
package goproxytest

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// Add adds one version of a module to the proxy in the folder proxy. names are its files,
// slash-separated and relative to the folder root.
func Add(t testing.TB, proxy string, m module.Version, root string, names []string) {
	t.Helper()
	path, err := module.EscapePath(m.Path)
	if err != nil {
		t.Fatal(err)
	}
	var files []zip.File
	for _, name := range names {
		files = append(files, file{root, name})
	}
	var archive bytes.Buffer
	if err := zip.Create(&archive, m, files); err != nil {
		t.Fatal(err)
	}
	goMod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(proxy, filepath.FromSlash(path), "@v")
	if err := os.MkdirAll(base, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		m.Version + ".zip": archive.Bytes(), m.Version + ".mod": goMod, m.Version + ".info": fmt.Appendf(nil, `{"Version":%q}`, m.Version),
		"list": []byte(m.Version + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(base, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// URL returns the URL of a folder, for GOPROXY.
func URL(folder string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(folder)}).String()
}

// Downloaded returns the URL of a proxy with the modules that the go command has downloaded on this
// computer.
func Downloaded(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return URL(filepath.Join(strings.TrimSpace(string(out)), "cache", "download"))
}

// A file is a file of a module, below a root.
type file struct{ root, name string }

func (f file) Path() string                 { return f.name }
func (f file) Lstat() (fs.FileInfo, error)  { return os.Lstat(filepath.Join(f.root, f.name)) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(filepath.Join(f.root, f.name)) }
