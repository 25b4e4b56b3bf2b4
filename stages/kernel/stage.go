package kernel

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sovereign-sql/sov/internal/confine"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/kconfig"
	guest "github.com/sovereign-sql/sov/kernel"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/output"
)

// Name is the name of the stage.
const Name = "kernel"

// Names of the outputs.
const (
	ImageOutput  = "kernel"      // raw arm64 Image or bzImage
	ConfigOutput = "config"      // the configuration inside it
	InfoOutput   = "kernel.json" // an Info
)

// format is the version of the outputs, see output.Version. Its label in the key differs from that
// of other stages, because existing caches have it.
const format = 1

// Options say which kernel to make.
type Options struct {
	Arch   string      // "arm64" or "amd64"
	Source lock.Kernel // the archive to build from, from Resolve or the lock

	// Prebuilt is the path of a finished image to use instead of Source.
	Prebuilt string
	// Features are the machine's features, which Prebuilt must support. A compiled kernel supports
	// all of them.
	Features guest.Features

	Fetch  *fetch.Client   // for Source; nil: a client with defaults
	Bundle *offline.Bundle // used before Fetch
	Jobs   int             // compilers at a time; 0: one for each processor
	Path   string          // $PATH for the build tools; empty: that of the process
}

// Info is the content of InfoOutput.
type Info struct {
	Release string `json:"release"` // as uname -r prints it: "6.1.192-sov"
	Arch    string `json:"arch"`    // "arm64" or "amd64"

	// Version, Source and SHA256 describe the source archive as in the lock; a path is reduced to
	// the file's name. They are empty for a finished image.
	Version string `json:"version,omitempty"`
	Source  string `json:"source,omitempty"`
	SHA256  string `json:"sha256,omitempty"`

	Compiler string `json:"compiler,omitempty"` // first line of its --version

	// Unconfined is true if the kernel was compiled without confinement of the source's Makefiles,
	// see package confine.
	Unconfined bool `json:"unconfined,omitempty"`
}

// New returns the stage.
func New(o Options) pipeline.Stage {
	if o.Jobs <= 0 {
		o.Jobs = runtime.NumCPU()
	}
	if o.Fetch == nil {
		o.Fetch = &fetch.Client{}
	}
	if o.Prebuilt != "" {
		return prebuilt{o}
	}
	return &build{Options: o}
}

// finish checks an image against these features and writes the outputs. what names the image in
// messages.
func finish(j *pipeline.Job, what string, img *kconfig.Image, features guest.Features, info Info) (kconfig.Config, error) {
	if img.Arch != info.Arch {
		return nil, fmt.Errorf("%s is for %s, and the build for %s", what, img.Arch, info.Arch)
	}
	text, err := img.Config()
	if err != nil {
		return nil, fmt.Errorf("%s: %w; without it sov cannot check whether the guest would run.  "+
			"Build it with CONFIG_IKCONFIG=y, or leave out --kernel to have sov build one", what, err)
	}
	config, err := kconfig.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if missing := guest.Check(info.Arch, config, features); len(missing) > 0 {
		return nil, &guest.UnfitError{Kernel: what, Missing: missing}
	}
	info.Release = img.Release()
	if v := info.Version; v != "" && info.Release != v && !strings.HasPrefix(info.Release, v+"-") && !strings.HasPrefix(info.Release, v+"+") {
		return nil, fmt.Errorf("%s is Linux %.80q, and its source is Linux %s", what, info.Release, v)
	}
	if _, err := j.Write(ImageOutput, img.Bytes); err != nil {
		return nil, err
	}
	if _, err := j.Write(ConfigOutput, text); err != nil {
		return nil, err
	}
	return config, output.WriteJSON(j, InfoOutput, info)
}

// A build is the stage that compiles a kernel.
type build struct {
	Options
}

func (*build) Name() string    { return Name }
func (*build) Needs() []string { return nil }

// Key adds the tools that affect the image: the compiler and linker, and gzip, which packs the
// configuration. On a computer that cannot compile, the key has no tools; see borrow.
func (s *build) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	fragments, err := guest.Fragments(s.Arch)
	if err != nil {
		return err
	}
	k.Add("format", format)
	k.Add("arch", s.Arch)
	k.Add("source", sourceName(s.Source.Source))
	k.Add("source version", s.Source.Version)
	k.Add("source sha256", s.Source.SHA256)
	for _, f := range fragments {
		k.Add(f.Name, f.Text)
	}
	k.Add("requirements", guest.KeyOptions(s.Arch))
	tools := s.toolchain()
	if !tools.canCompile() {
		k.Add("tools", "those of another computer")
		return nil
	}
	for _, v := range tools.versions(context.Background()) {
		k.Add(v.tool, v.version)
	}
	return nil
}

func (s *build) Run(ctx context.Context, j *pipeline.Job) error {
	tools := s.toolchain()
	if !tools.canCompile() {
		return s.borrow(ctx, j)
	}
	if err := tools.check(ctx); err != nil {
		return err
	}
	archive, err := s.fetchSource(ctx, j)
	if err != nil {
		return err
	}
	dir, remove, err := buildFolder(j)
	if err != nil {
		return err
	}
	defer remove()
	fragments, err := guest.Fragments(s.Arch)
	if err != nil {
		return err
	}
	unconfined := confine.Check(ctx)
	if unconfined != nil {
		j.Warnf("%v: the source's Makefiles run with your rights and the network in reach, and the provenance says so", unconfined)
	}
	t := &sourceTree{
		plain:     unconfined != nil,
		dir:       filepath.Join(dir, "linux"),
		arch:      s.Arch,
		tools:     tools,
		jobs:      s.Jobs,
		fragments: fragments,
		task:      j.Progress(),
	}
	img, err := t.makeImage(ctx, j, archive)
	if err != nil {
		return fmt.Errorf("build Linux %s from %s: %w", s.Source.Version, s.Source.Source, err)
	}
	info := s.info(tools.versions(ctx)[0].version)
	info.Unconfined = t.plain
	config, err := finish(j, "the kernel built from "+s.Source.Source, img, guest.AllFeatures, info)
	if err != nil {
		return err
	}
	if err := s.lend(ctx, j, img, info); err != nil {
		return err
	}
	return warnIneffective(j, fragments, config)
}

// info describes a compiled kernel.
func (s *build) info(compiler string) Info {
	return Info{Arch: s.Arch, Version: s.Source.Version, Source: sourceName(s.Source.Source), SHA256: s.Source.SHA256, Compiler: compiler}
}

// buildFolder returns a folder to unpack and compile in, and a function that removes it. It is the
// job's scratch folder, unless the cache's path contains a space or a colon, which the kernel's
// Makefile refuses.
func buildFolder(j *pipeline.Job) (dir string, remove func(), err error) {
	dir, err = j.Scratch()
	if err != nil || !strings.ContainsAny(dir, " :\t\n") {
		return dir, func() {}, err
	}
	if dir, err = os.MkdirTemp("", "sov-kernel-"); err != nil {
		return "", nil, err
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}

// warnIneffective warns about options of the fragments that the final configuration lacks. The
// caller has checked the guest's requirements.
func warnIneffective(j *pipeline.Job, fragments []guest.Fragment, config kconfig.Config) error {
	lost, err := ineffective(fragments, config)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		j.Warnf("this kernel's source or compiler does not know, or cannot combine, options that were asked for: %s", strings.Join(lost, ", "))
	}
	return nil
}

// ineffective returns the lines of the fragments that did not take effect.
func ineffective(fragments []guest.Fragment, config kconfig.Config) ([]string, error) {
	var lost []string
	for _, f := range fragments {
		wanted, err := kconfig.Parse([]byte(f.Text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		for _, name := range wanted.Names() {
			if config[name] != wanted[name] {
				lost = append(lost, "CONFIG_"+name+"="+wanted[name])
			}
		}
		for _, name := range kconfig.Unset([]byte(f.Text)) {
			if _, ok := config[name]; ok {
				lost = append(lost, "CONFIG_"+name+" off")
			}
		}
	}
	return lost, nil
}

// sourceName returns the name of a source in outputs: a path is reduced to its last element, so
// that the output does not depend on the directory.
func sourceName(source string) string {
	if fetch.IsURL(source) || strings.HasPrefix(source, debPrefix) {
		return source
	}
	return filepath.Base(source)
}
