package tailscale

import (
	"bytes"
	"context"
	"debug/buildinfo"
	_ "embed"
	"fmt"

	"golang.org/x/mod/modfile"

	"github.com/sovereign-sql/sov/internal/confine"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/gobuild"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// Name is the name of the stage.
const Name = "tailscale"

// Names of the outputs.
const (
	TarOutput  = Name + overlay.Suffix
	InfoOutput = "tailscale.json" // an Info
)

// module is the pinned module, command the package that is built from it.
const (
	module  = "tailscale.com"
	command = "tailscale.com/cmd/tailscaled"
)

// format is the version of the outputs, see output.Version. Its label in the key differs from that
// of other stages, because existing caches have it.
const format = 2

var (
	//go:embed tailscaled.mod
	goMod []byte
	//go:embed tailscaled.sum
	goSum []byte
)

// Version returns the version of Tailscale that the stage builds, "v1.102.5".
func Version() string {
	f, err := modfile.Parse("tailscaled.mod", goMod, nil)
	if err != nil {
		panic(err) // embedded, and read by the tests
	}
	for _, r := range f.Require {
		if r.Mod.Path == module {
			return r.Mod.Version
		}
	}
	panic("tailscaled.mod does not require " + module)
}

// Requirements returns the pinned modules, including Tailscale's own. Not all of them become part
// of the program.
func Requirements() []Module {
	f, err := modfile.Parse("tailscaled.mod", goMod, nil)
	if err != nil {
		panic(err) // embedded, and read by the tests
	}
	var out []Module
	for _, r := range f.Require {
		out = append(out, Module{Path: r.Mod.Path, Version: r.Mod.Version})
	}
	return out
}

// Options configure the build.
type Options struct {
	Arch    string // "arm64" or "amd64"
	Offline bool   // take modules only from Bundle and Go's module cache
	Fresh   bool   // compile every package; do not use Go's build cache
	Go      string // path of the go command; empty: the one in PATH

	// Certificates includes the code that orders a certificate for the node's name. Other images do
	// not need it.
	Certificates bool

	Bundle *offline.Bundle // its modules are used before others
}

// Info is the content of InfoOutput.
type Info struct {
	Version string   `json:"version"` // of Tailscale
	Go      string   `json:"go"`      // version of the toolchain, "go1.26.8"
	Modules []Module `json:"modules"` // the modules in the program, including Tailscale

	// Unconfined is true if the program was compiled without confinement, see package confine.
	Unconfined bool `json:"unconfined,omitempty"`
}

// A Module is a Go module.
type Module = gobuild.Module

// New returns the stage.
func New(o Options) pipeline.Stage { return overlay.Share{Stage: &stage{o}} }

type stage struct{ Options }

func (*stage) Name() string    { return Name }
func (*stage) Needs() []string { return nil }

func (s *stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	k.Add("format", format)
	k.Add("arch", s.Arch)
	k.Add("version", Version())
	k.Add("tailscaled.mod", goMod)
	k.Add("tailscaled.sum", goSum)
	k.Add("tags", s.buildTags())
	version, err := s.goVersion(context.Background())
	if err != nil {
		// Run returns the error with advice, if it is called.
		version = "missing"
	}
	k.Add("go", version)
	return nil
}

func (s *stage) Run(ctx context.Context, j *pipeline.Job) error {
	dir, err := j.Scratch()
	if err != nil {
		return err
	}
	unconfined := confine.Check(ctx)
	if unconfined != nil {
		j.Warnf("%v: Tailscale's modules are compiled with your rights and the network in reach, and the provenance says so", unconfined)
	}
	program, err := s.compile(ctx, dir, unconfined != nil, j.Progress())
	if err != nil {
		return fmt.Errorf("build %s %s: %w", command, Version(), err)
	}
	if err := share(j, program); err != nil {
		return err
	}
	return writeInfo(j, program, unconfined != nil)
}

// share writes the share with the program. Under the name "tailscale" the program is the command
// line.
func share(j *pipeline.Job, content []byte) error {
	return overlay.Write(j, Name, nil, func(b *overlay.Builder, _ *tree.Tree) error {
		b.File("usr/sbin/tailscaled", 0o755, content)
		b.Symlink("usr/bin/tailscale", "../sbin/tailscaled")
		return nil
	})
}

// writeInfo writes the Info, with the modules from the program's build information.
func writeInfo(j *pipeline.Job, program []byte, unconfined bool) error {
	build, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return err
	}
	info := Info{Version: Version(), Go: build.GoVersion, Modules: gobuild.ModulesOf(build), Unconfined: unconfined}
	return output.WriteJSON(j, InfoOutput, info)
}
