package gobuild

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/offline"
)

// Setting returns the value of a variable in an environment.
func Setting(env []string, name string) string {
	for _, v := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// Before returns an environment that adds a folder, laid out as a module proxy, in front of the
// configured proxies.
func Before(env []string, folder string) []string {
	proxy := (&url.URL{Scheme: "file", Path: filepath.ToSlash(folder)}).String()
	if rest := Setting(env, "GOPROXY"); rest != "" {
		proxy += "," + rest
	}
	return append(slices.Clone(env), "GOPROXY="+proxy)
}

// WithBundle unpacks a bundle's modules into a folder and adds it in front of the other proxies. Go
// compares the modules with go.sum like those of any proxy.
func WithBundle(env []string, bundle *offline.Bundle, folder string) ([]string, error) {
	if bundle == nil {
		return env, nil
	}
	found := false
	for _, i := range bundle.Items {
		if i.Kind != offline.Module {
			continue
		}
		found = true
		if err := unpack(bundle, i.Name, filepath.Join(folder, filepath.FromSlash(i.Name))); err != nil {
			return nil, fmt.Errorf("unpack %s of the bundle: %w", i.Name, err)
		}
	}
	if !found {
		return env, nil
	}
	return Before(env, folder), nil
}

func unpack(bundle *offline.Bundle, name, path string) error {
	body, _, err := bundle.Open(offline.Module, name)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, body); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// ProxyFiles lists the files of a download folder of Go's module cache that a module proxy serves
// (https://go.dev/ref/mod#goproxy-protocol), by their paths below it.
func ProxyFiles(root string) (files []string, err error) {
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if ext := filepath.Ext(name); err == nil && (ext == ".mod" || ext == ".zip") && strings.Contains(filepath.ToSlash(name), "/@v/") {
			files = append(files, filepath.ToSlash(name))
		}
		return err
	})
	slices.Sort(files)
	return files, err
}

// Cache returns the folder for Go's build cache. users is the user's build cache: Cache returns a
// folder beside it, because a hostile source that takes over the compiler could write to the cache,
// and so get into the user's other programs. Only the user can enter the parent folder. If fresh is
// true, the folder is an empty one in dir.
func Cache(users, dir string, fresh bool) (string, error) {
	around := filepath.Join(users, "sov")
	if fresh {
		around = filepath.Join(dir, "gocache")
	}
	cache := filepath.Join(around, "cache")
	if err := os.MkdirAll(around, 0o700); err != nil {
		return "", err
	}
	if err := os.Mkdir(cache, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return cache, nil
}

// A Module is a Go module.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum"` // as in go.sum, "h1:..."
}

// ModulesOf returns the modules that a program is linked from, without its own.
func ModulesOf(build *buildinfo.BuildInfo) (modules []Module) {
	for _, m := range build.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		modules = append(modules, Module{m.Path, m.Version, m.Sum})
	}
	return modules
}
