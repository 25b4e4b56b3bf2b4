package tailscale

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/confine"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/pipeline"
)

// Modules fetches the modules that a build needs into dir and returns the files
// of them that a module proxy serves, by their paths below it
// (https://go.dev/ref/mod#goproxy-protocol): the go.mod files of the module
// graph, and the zips of what is compiled. What Go's module cache has is taken
// from there.
func Modules(ctx context.Context, o Options, dir string, task *pipeline.Task) (files []string, root string, err error) {
	s := &stage{o}
	if _, err := s.checkGo(ctx); err != nil {
		return nil, "", err
	}
	env, err := s.goCommand().Environment(ctx, s.Arch)
	if err != nil {
		return nil, "", err
	}
	if env, err = s.withBundle(env, filepath.Join(dir, "proxy")); err != nil {
		return nil, "", err
	}
	src, err := writeModule(dir)
	if err != nil {
		return nil, "", err
	}
	have := filepath.Join(setting(env, "GOMODCACHE"), "cache", "download")
	root = filepath.Join(dir, "modules", "cache", "download")
	env = append(before(env, have), "GOMODCACHE="+filepath.Join(dir, "modules"), "GOFLAGS=-mod=readonly -modcacherw")
	task.Step("fetch modules")
	if err := s.goCommand().Run(ctx, listModules(src, env), task.Step); err != nil {
		return nil, "", fmt.Errorf("fetch the modules of %s %s: %w", command, Version(), err)
	}
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
	return files, root, err
}

// listModules has the go command fetch what is missing of the modules. It runs nothing that is in them.
func listModules(src string, env []string) confine.Command {
	return confine.Command{Args: []string{"list", "-deps", "-tags", buildTags(), "-f", "{{with .Error}}{{.}}{{end}}", command}, Dir: src, Env: env, Plain: true}
}

// setting is the value of a variable of an environment.
func setting(env []string, name string) string {
	for _, v := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// before is an environment in which a folder that is laid out as a module proxy
// is asked before the proxies that are set.
func before(env []string, folder string) []string {
	proxy := (&url.URL{Scheme: "file", Path: filepath.ToSlash(folder)}).String()
	if rest := setting(env, "GOPROXY"); rest != "" {
		proxy += "," + rest
	}
	return append(slices.Clone(env), "GOPROXY="+proxy)
}

// withBundle unpacks the bundle's modules into a folder, which Go then asks
// before other proxies. Go compares them with go.sum like those of any proxy.
func (s *stage) withBundle(env []string, folder string) ([]string, error) {
	if s.Bundle == nil {
		return env, nil
	}
	found := false
	for _, i := range s.Bundle.Items {
		if i.Kind != offline.Module {
			continue
		}
		found = true
		if err := s.unpack(i.Name, filepath.Join(folder, filepath.FromSlash(i.Name))); err != nil {
			return nil, fmt.Errorf("unpack %s of the bundle: %w", i.Name, err)
		}
	}
	if !found {
		return env, nil
	}
	return before(env, folder), nil
}

func (s *stage) unpack(name, path string) error {
	body, _, err := s.Bundle.Open(offline.Module, name)
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
