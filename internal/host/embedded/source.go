package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime/debug"

	"golang.org/x/mod/module"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/host/crosscompile"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
	"github.com/sovereign-sql/sov/stages/output"
)

// ErrAbsent is returned if this sov has no embedded program.
var ErrAbsent = errors.New("compile sov with `make build`")

// A Source provides the programs: the embedded ones or, in a sov of `go install`, which does not
// have them, the same programs compiled from the same version of its module. They are compiled once
// and cached.
type Source struct {
	CacheDir func() (string, error) // returns sov's cache folder
	Offline  bool                   // use only Go's module cache
	Reporter progress.Reporter      // shows the compilation; nil: it is not shown
}

// Program returns the bytes of a program ("sov-init", "sov-runner") for an architecture ("arm64",
// "amd64"). The error is ErrAbsent if it is neither embedded nor can be compiled from a version of
// the module.
func (s Source) Program(ctx context.Context, name, arch string) ([]byte, error) {
	content, err := Program(name, arch)
	if !errors.Is(err, ErrAbsent) {
		return content, err
	}
	info, _ := debug.ReadBuildInfo()
	m, sum, ok := Installed(info)
	if !ok {
		return nil, err
	}
	return s.compiled(ctx, &crosscompile.Stage{Program: name, Arch: arch, Module: m, Sum: sum, Offline: s.Offline})
}

// Complete returns nil if all programs are embedded, and ErrAbsent otherwise.
func Complete() error {
	for _, name := range crosscompile.Programs {
		for _, arch := range arch.Names() {
			if _, err := fs.Stat(programs, path(name, arch)); err != nil {
				return ErrAbsent
			}
		}
	}
	return nil
}

// Installed returns the version of the module that a program was compiled from by `go install
// MODULE/cmd/sov@VERSION`, and the checksum of the module's zip. ok is false for a program that was
// compiled in a checkout.
func Installed(info *debug.BuildInfo) (m module.Version, sum string, ok bool) {
	if info == nil || info.Main.Sum == "" {
		return m, "", false
	}
	return module.Version{Path: info.Main.Path, Version: info.Main.Version}, info.Main.Sum, true
}

// compiled returns the stage's output, from the cache if possible.
func (s Source) compiled(ctx context.Context, stage *crosscompile.Stage) ([]byte, error) {
	dir, err := s.CacheDir()
	if err != nil {
		return nil, err
	}
	cache, err := store.Open(dir)
	if err != nil {
		return nil, err
	}
	if s.Reporter == nil {
		s.Reporter = progress.Silent{}
	}
	result, err := (&pipeline.Engine{Store: cache, Progress: whatRuns{s.Reporter}}).Build(ctx, []pipeline.Stage{stage})
	if err != nil {
		return nil, err
	}
	blob, ok := output.Find(output.Of(result, cache), stage.Name(), stage.Program)
	if !ok {
		return nil, fmt.Errorf("%s was compiled, and is not in the cache", stage.Program)
	}
	f, err := cache.Open(blob)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// whatRuns shows a stage only if it runs, and hides the start and end events of its build.
type whatRuns struct{ progress.Reporter }

func (w whatRuns) Report(e progress.Event) {
	switch e.Type {
	case progress.EventBuild, progress.EventCached, progress.EventDone:
	default:
		w.Reporter.Report(e)
	}
}
