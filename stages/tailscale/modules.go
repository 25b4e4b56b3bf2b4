package tailscale

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/confine"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/gobuild"
)

// Modules fetches the modules of a build into dir, or takes them from Go's module cache. It returns
// the paths, relative to root, of the files that a module proxy serves
// (https://go.dev/ref/mod#goproxy-protocol): the go.mod files of the module graph, and the zips of
// the compiled modules.
func Modules(ctx context.Context, o Options, dir string, task *pipeline.Task) (files []string, root string, err error) {
	s := &stage{o}
	if _, err := s.checkGo(ctx); err != nil {
		return nil, "", err
	}
	env, err := s.goCommand().Environment(ctx, s.Arch)
	if err != nil {
		return nil, "", err
	}
	if env, err = gobuild.WithBundle(env, s.Bundle, filepath.Join(dir, "proxy")); err != nil {
		return nil, "", err
	}
	src, err := writeModule(dir)
	if err != nil {
		return nil, "", err
	}
	have := filepath.Join(gobuild.Setting(env, "GOMODCACHE"), "cache", "download")
	root = filepath.Join(dir, "modules", "cache", "download")
	env = append(gobuild.Before(env, have), "GOMODCACHE="+filepath.Join(dir, "modules"), "GOFLAGS=-mod=readonly -modcacherw")
	task.Step("fetch modules")
	if err := s.goCommand().Run(ctx, s.listModules(src, env), task.Step); err != nil {
		return nil, "", fmt.Errorf("fetch the modules of %s %s: %w", command, Version(), err)
	}
	files, err = gobuild.ProxyFiles(root)
	return files, root, err
}

// listModules returns the go command that fetches missing modules. It does not execute code of
// these modules.
func (s *stage) listModules(src string, env []string) confine.Command {
	return confine.Command{Args: []string{"list", "-deps", "-tags", s.buildTags(), "-f", "{{with .Error}}{{.}}{{end}}", command}, Dir: src, Env: env, Plain: true}
}
