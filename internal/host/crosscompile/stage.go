package crosscompile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/mod/module"

	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/gobuild"
	"github.com/sovereign-sql/sov/stages/output"
)

// A Stage compiles a program from a version of the module, which it fetches. Its one output has the
// program's name. It runs separately from builds, so that the cache stores the program and checks
// it on every use.
type Stage struct {
	Program string // one of Programs
	Arch    string
	Module  module.Version
	Sum     string // of the module's zip, "h1:..." as in go.sum; it covers go.mod, which names the toolchain
	Offline bool   // take modules only from Go's module cache
}

// Name returns the program's name.
func (s *Stage) Name() string { return s.Program }

// Needs returns nothing.
func (s *Stage) Needs() []string { return nil }

// Key adds what the program is compiled from.
func (s *Stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	output.Version(k, 1)
	k.Add("arch", s.Arch)
	k.Add("module", s.Module.String())
	k.Add("sum", s.Sum)
	return nil
}

// Run fetches the module and compiles the program.
func (s *Stage) Run(ctx context.Context, j *pipeline.Job) error {
	scratch, err := j.Scratch()
	if err != nil {
		return err
	}
	dir, err := s.fetch(ctx, scratch, j.Progress())
	if err != nil {
		return fmt.Errorf("fetch %s: %w", s.Module, err)
	}
	program := filepath.Join(scratch, s.Program)
	if err := Program(ctx, s.Offline, dir, s.Program, s.Arch, s.Module.Version, program, j.Progress().Step); err != nil {
		return err
	}
	content, err := os.ReadFile(program)
	if err == nil {
		_, err = j.Write(s.Program, content)
	}
	return err
}

// fetch returns the folder of the module's sources in Go's module cache.
func (s *Stage) fetch(ctx context.Context, scratch string, task *pipeline.Task) (dir string, err error) {
	g := gobuild.Go{Toolchain: "local", Offline: s.Offline}
	env, err := g.Environment(ctx, s.Arch)
	if err != nil {
		return "", err
	}
	program, err := g.Path()
	if err != nil {
		return "", err
	}
	task.Step("fetch " + s.Module.String())
	download := exec.CommandContext(ctx, program, "mod", "download", "-json", s.Module.String())
	download.Env, download.Dir = env, scratch
	var stderr bytes.Buffer
	download.Stderr = &stderr
	out, err := download.Output()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	var got struct{ Dir, Sum, Error string }
	if json.Unmarshal(out, &got) != nil || err != nil {
		return "", fmt.Errorf("go mod download: %w: %s%s", err, got.Error, bytes.TrimSpace(stderr.Bytes()))
	}
	if got.Sum != s.Sum {
		return "", fmt.Errorf("its checksum is %s, and this sov was compiled from %s: the module proxy serves other sources than it did: "+
			"install sov again with `go install %s/cmd/sov@%s`", got.Sum, s.Sum, s.Module.Path, s.Module.Version)
	}
	return got.Dir, nil
}
