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

	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/gobuild"
)

// goCommand is the go command with its own toolchain, whose version is part of the key.
func (s *stage) goCommand() gobuild.Go {
	return gobuild.Go{Program: s.Go, Toolchain: "local", Offline: s.Offline}
}

// goVersion returns what `go env GOVERSION` says, "go1.26.8". Where there is no Go, the error says
// what to do.
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

// compile builds the program in dir, where it makes the pinned module.
func (s *stage) compile(ctx context.Context, dir, output string, task *pipeline.Task) error {
	if _, err := s.checkGo(ctx); err != nil {
		return err
	}
	env, err := s.goCommand().Environment(ctx, s.Arch)
	if err != nil {
		return err
	}
	if env, err = s.withBundle(env, filepath.Join(dir, "proxy")); err != nil {
		return err
	}
	if s.Fresh {
		env = append(env, "GOCACHE="+filepath.Join(dir, "gocache"))
	}
	src, err := writeModule(dir)
	if err != nil {
		return err
	}
	version := strings.TrimPrefix(Version(), "v")
	task.Step("compile")
	err = s.goCommand().Run(ctx, src, env, task.Step, "build", "-v", "-tags", buildTags(), "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X tailscale.com/version.shortStamp="+version+" -X tailscale.com/version.longStamp="+version,
		"-o", output, command)
	if err != nil && s.Offline {
		return fmt.Errorf("%w\n(offline: all of its modules have to be in Go's module cache; run once without --offline)", err)
	}
	return err
}

// writeModule makes the pinned module below dir.
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

// CheckGo returns the version of the go command in PATH, "go1.26.8", or an error where it cannot
// compile Tailscale.
func CheckGo(ctx context.Context) (string, error) { return new(stage).checkGo(ctx) }

// checkGo explains a toolchain that is too old before go build does it less
// well.
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
