package tailscale

import (
	"context"
	"errors"
	"fmt"
	goversion "go/version"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/sovereign-sql/sov/internal/confine"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/gobuild"
)

// goCommand returns the go command with its own toolchain, whose version is part of the key.
func (s *stage) goCommand() gobuild.Go {
	return gobuild.Go{Program: s.Go, Toolchain: "local", Offline: s.Offline}
}

// goVersion returns the output of `go env GOVERSION`, "go1.26.8". Without Go, the error says what
// to do.
func (s *stage) goVersion(ctx context.Context) (string, error) {
	program, err := s.goCommand().Path()
	if errors.Is(err, gobuild.ErrNoGo) {
		return "", fmt.Errorf("%w, or turn Tailscale off in the recipe", err)
	}
	if err != nil {
		return "", err
	}
	return gobuild.Version(ctx, program)
}

// compile writes the pinned module to dir, fetches its dependencies, builds the program and returns
// it. Only the fetch can use the network.
func (s *stage) compile(ctx context.Context, dir string, plain bool, task *pipeline.Task) ([]byte, error) {
	if _, err := s.checkGo(ctx); err != nil {
		return nil, err
	}
	g := s.goCommand()
	program, err := g.Path()
	if err != nil {
		return nil, err
	}
	env, err := g.Environment(ctx, s.Arch)
	if err != nil {
		return nil, err
	}
	if env, err = gobuild.WithBundle(env, s.Bundle, filepath.Join(dir, "proxy")); err != nil {
		return nil, err
	}
	src, err := writeModule(dir)
	if err != nil {
		return nil, err
	}
	task.Step("fetch modules")
	err = g.Run(ctx, s.listModules(src, env), task.Step)
	if err != nil && s.Offline {
		return nil, fmt.Errorf("%w\n(offline: all of its modules have to be in Go's module cache; run once without --offline)", err)
	}
	if err != nil {
		return nil, err
	}
	out, tmp := filepath.Join(dir, "out"), filepath.Join(dir, "tmp")
	cache, err := gobuild.Cache(gobuild.Setting(env, "GOCACHE"), dir, s.Fresh)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{out, tmp} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	root, err := g.Variable(ctx, env, "GOROOT")
	if err != nil {
		return nil, err
	}
	version := strings.TrimPrefix(Version(), "v")
	task.Step("compile")
	err = g.Run(ctx, confine.Command{Args: []string{"build", "-v", "-tags", s.buildTags(), "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X tailscale.com/version.shortStamp=" + version + " -X tailscale.com/version.longStamp=" + version,
		"-o", filepath.Join(out, "tailscaled"), command},
		Dir: src, Env: append(env, "GOPROXY=off", "GOCACHE="+cache, "GOTMPDIR="+tmp, "TMPDIR="+tmp, "HOME=/nonexistent"),
		Read: []string{src, root, gobuild.Setting(env, "GOMODCACHE"), filepath.Dir(program)}, Write: []string{out, tmp, cache}, Plain: plain}, task.Step)
	if err != nil {
		return nil, err
	}
	return confine.ReadOutput(out, "tailscaled", maxProgram)
}

// maxProgram is the largest tailscaled, in bytes. It usually has about 30 MiB.
const maxProgram = 1 << 30

// writeModule writes the pinned module to a folder below dir.
func writeModule(dir string) (src string, err error) {
	src = filepath.Join(dir, "module")
	if err := os.Mkdir(src, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(src, "go.mod"), goMod, 0o644); err != nil {
		return "", err
	}
	return src, os.WriteFile(filepath.Join(src, "go.sum"), goSum, 0o644)
}

// CheckGo returns the version of the go command in PATH, "go1.26.8", or an error if it cannot
// compile Tailscale.
func CheckGo(ctx context.Context) (string, error) { return new(stage).checkGo(ctx) }

// checkGo returns a clear error for a toolchain that is too old, before go build fails.
func (s *stage) checkGo(ctx context.Context) (have string, err error) {
	if have, err = s.goVersion(ctx); err != nil {
		return "", err
	}
	f, err := modfile.Parse("tailscaled.mod", goMod, nil)
	if err != nil {
		return "", err
	}
	if goversion.Compare(have, "go"+f.Go.Version) < 0 {
		return "", fmt.Errorf("needs Go %s or newer, and the go command here is %s; install a newer one from https://go.dev/dl/", f.Go.Version, have)
	}
	return have, nil
}
