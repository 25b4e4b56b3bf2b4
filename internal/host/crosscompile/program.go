// Package crosscompile compiles the programs for the guest (sov-init) and the phone (sov-runner).
// Their bytes depend only on the module's sources, the toolchain in its go.mod, and the version of
// a release: they are the same from `make build` in a checkout and from a sov of `go install`,
// which compiles the module's zip.
package crosscompile

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/modfile"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/confine"
	"github.com/sovereign-sql/sov/internal/host/release"
	"github.com/sovereign-sql/sov/stages/gobuild"
)

// Programs are the names of the programs.
var Programs = []string{"sov-init", artifact.RunnerFile}

// Program compiles a program for an architecture from the module in the folder dir, of this
// version, and writes it to the file output. step is called with what is being done.
func Program(ctx context.Context, offline bool, dir, name, arch, version, output string, step func(string)) error {
	goMod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	module, err := modfile.Parse("go.mod", goMod, nil)
	if err != nil {
		return err
	}
	g := gobuild.Go{Toolchain: "go" + module.Go.Version, Offline: offline}
	if module.Toolchain != nil {
		g.Toolchain = module.Toolchain.Name
	}
	env, err := g.Environment(ctx, arch)
	if err != nil {
		return err
	}
	step("find toolchain " + g.Toolchain)
	if err := g.Check(ctx, env); err != nil {
		return err
	}
	// The guest's endpoint uses HTTP/1.1 and does not need HTTP/2, 0.4 MB of every image.
	flags := "-s -w -buildid="
	if name == artifact.RunnerFile && release.Is(version) {
		flags += " -X main.release=" + version
	}
	build := confine.Command{Args: []string{"build", "-v", "-trimpath", "-buildvcs=false", "-ldflags=" + flags, "-tags=nethttpomithttp2",
		"-o", output, module.Module.Mod.Path + "/cmd/" + name}, Dir: dir, Env: env, Plain: true} // of sov's own sources
	if err := g.Run(ctx, build, step); err != nil {
		return fmt.Errorf("compile %s for %s: %w", name, arch, err)
	}
	return nil
}
