// Package goprogram is the stage that compiles the recipe's Go programs, static and for the
// machine's architecture. The checksum of the module pins the sources, and its go.sum pins all
// modules that it needs.
//
// Outputs: "go.tar" with the programs; "go.json", an Info.
package goprogram

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	modzip "golang.org/x/mod/zip"

	"github.com/sovereign-sql/sov/internal/confine"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/gobuild"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// Name is the stage's name.
const Name = "go"

// InfoOutput is the name of the output with an Info.
const InfoOutput = "go.json"

// maxProgram is the largest program, in bytes.
const maxProgram = 1 << 30

// Options say what to compile, and how.
type Options struct {
	Programs []recipe.GoProgram
	Locked   []lock.RecipeFile // with the digests of their sources, see Sum
	Dir      string            // the recipe's folder
	Arch     string            // "arm64" or "amd64"
	Offline  bool              // take modules only from Bundle and Go's module cache
	Fresh    bool              // do not use Go's build cache
	Bundle   *offline.Bundle   // its modules and sources are used before others
}

// Info is the content of InfoOutput.
type Info struct {
	Go         string           `json:"go"` // version of the toolchain, "go1.26.8"
	Modules    []gobuild.Module `json:"modules"`
	Unconfined bool             `json:"unconfined,omitempty"` // the compilation was not confined
}

// New returns the stage.
func New(o Options) pipeline.Stage { return overlay.Share{Stage: &stage{o}} }

type stage struct{ Options }

func (*stage) Name() string    { return Name }
func (*stage) Needs() []string { return nil }

func (s *stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	output.Version(k, 1)
	k.Add("arch", s.Arch)
	for i, p := range s.Programs {
		sum, err := s.locked(p)
		if err != nil {
			return err
		}
		k.Add(fmt.Sprintf("program %d", i), append([]string{p.Output, p.Module, p.Version, p.Package, sum}, p.Tags...))
	}
	version := "missing" // Run returns the error with advice, if it is called
	if program, err := s.goCommand().Path(); err == nil {
		if version, err = gobuild.Version(context.Background(), program); err != nil {
			return err
		}
	}
	k.Add("go", version)
	return nil
}

// locked returns the digest of a program's sources in the lock.
func (s *stage) locked(p recipe.GoProgram) (string, error) {
	for _, f := range s.Locked {
		if f.Path == p.Output {
			return f.SHA256, nil
		}
	}
	return "", fmt.Errorf("go program %s is not in the lock", p.Output)
}

// goCommand returns the go command with its own toolchain, whose version is part of the key.
func (o Options) goCommand() gobuild.Go { return gobuild.Go{Toolchain: "local", Offline: o.Offline} }

// environment returns the go command and its environment, with the bundle's modules in front of
// other proxies.
func (o Options) environment(ctx context.Context, dir string) (program string, env []string, err error) {
	if program, err = o.goCommand().Path(); err != nil {
		return "", nil, err
	}
	if env, err = o.goCommand().Environment(ctx, o.Arch); err != nil {
		return "", nil, err
	}
	env, err = gobuild.WithBundle(env, o.Bundle, filepath.Join(dir, "proxy"))
	return program, env, err
}

func setting(env []string, name string) string { return gobuild.Setting(env, name) }

func (s *stage) Run(ctx context.Context, j *pipeline.Job) error {
	unconfined := confine.Check(ctx)
	if unconfined != nil {
		j.Warnf("%v: the recipe's Go programs are compiled with your rights and the network in reach, and the provenance says so", unconfined)
	}
	info := Info{Unconfined: unconfined != nil}
	programs := map[string][]byte{}
	for i, p := range s.Programs {
		scratch, err := j.Scratch()
		if err != nil {
			return err
		}
		dir := filepath.Join(scratch, fmt.Sprintf("program-%d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		content, err := s.compile(ctx, p, dir, unconfined != nil, j.Progress())
		if err != nil {
			return fmt.Errorf("build %s of %s: %w", p.Output, p.From(), err)
		}
		build, err := buildinfo.Read(bytes.NewReader(content))
		if err != nil { // an archive
			return fmt.Errorf("build %s of %s: package %q is not a program: name one of its main packages with package", p.Output, p.From(), p.Package)
		}
		info.Go = build.GoVersion
		info.Modules = append(info.Modules, gobuild.ModulesOf(build)...)
		programs[p.Output] = content
	}
	err := overlay.Write(j, Name, nil, func(b *overlay.Builder, _ *tree.Tree) error {
		for _, p := range s.Programs {
			b.File(strings.TrimPrefix(p.Output, "/"), 0o755, programs[p.Output])
		}
		return nil
	})
	if err != nil {
		return err
	}
	return output.WriteJSON(j, InfoOutput, info)
}

// source unpacks the module of a program below dir and runs the go command to fetch its
// dependencies. It does not execute code of these modules.
func (s *stage) source(ctx context.Context, p recipe.GoProgram, dir string, env []string, task *pipeline.Task) (src string, err error) {
	want, err := s.locked(p)
	if err != nil {
		return "", err
	}
	task.Step("fetch " + p.From())
	f, err := s.fetch(ctx, p, dir, want)
	if err != nil {
		return "", err
	}
	src = filepath.Join(dir, "module")
	if err := modzip.Unzip(src, f.Version, f.zip); err != nil {
		return "", err
	}
	task.Step("fetch modules")
	err = s.goCommand().Run(ctx, confine.Command{Args: append([]string{"list", "-deps", "-f", "{{with .Error}}{{.}}{{end}}"}, s.what(p)...), Dir: src, Env: env, Plain: true}, task.Step)
	if err != nil && s.Offline {
		err = fmt.Errorf("%w\n(offline: all of its modules have to be in Go's module cache; run once without --offline)", err)
	}
	return src, err
}

// what returns the go command's arguments for a program.
func (s *stage) what(p recipe.GoProgram) []string {
	return []string{"-tags", strings.Join(p.Tags, ","), "./" + p.Package}
}

// compile compiles a program. Only the fetch of modules can use the network.
func (s *stage) compile(ctx context.Context, p recipe.GoProgram, dir string, plain bool, task *pipeline.Task) ([]byte, error) {
	program, env, err := s.environment(ctx, dir)
	if err != nil {
		return nil, err
	}
	src, err := s.source(ctx, p, dir, env, task)
	if err != nil {
		return nil, err
	}
	out, tmp := filepath.Join(dir, "out"), filepath.Join(dir, "tmp")
	for _, d := range []string{out, tmp} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	cache, err := gobuild.Cache(setting(env, "GOCACHE"), dir, s.Fresh)
	if err != nil {
		return nil, err
	}
	root, err := s.goCommand().Variable(ctx, env, "GOROOT")
	if err != nil {
		return nil, err
	}
	task.Step("compile")
	err = s.goCommand().Run(ctx, confine.Command{
		Args: append([]string{"build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", filepath.Join(out, "program")}, s.what(p)...),
		Dir:  src, Env: append(env, "GOPROXY=off", "GOCACHE="+cache, "GOTMPDIR="+tmp, "TMPDIR="+tmp, "HOME=/nonexistent"),
		Read: []string{src, root, setting(env, "GOMODCACHE"), filepath.Dir(program)}, Write: []string{out, tmp, cache}, Plain: plain}, task.Step)
	if err != nil {
		return nil, err
	}
	return confine.ReadOutput(out, "program", maxProgram)
}

// SourceItem returns a bundle's name for the sources with a digest.
func SourceItem(sum string) string { return "source.invalid/" + sum + ".zip" }

func (o Options) unpackSource(sum, path string) error {
	body, _, err := o.Bundle.Open(offline.Module, SourceItem(sum))
	if err != nil {
		return err
	}
	defer body.Close()
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, body)
	return errors.Join(err, w.Close())
}

// Modules fetches the external inputs of a build of the programs into dir: files of a module proxy,
// and the sources of folders. The result maps their names in a bundle to paths.
func Modules(ctx context.Context, o Options, dir string, task *pipeline.Task) (files map[string]string, err error) {
	s := &stage{o}
	_, env, err := s.environment(ctx, dir)
	if err != nil {
		return nil, err
	}
	have := filepath.Join(setting(env, "GOMODCACHE"), "cache", "download")
	env = append(gobuild.Before(env, have), "GOMODCACHE="+filepath.Join(dir, "modules"), "GOFLAGS=-mod=readonly -modcacherw")
	files = map[string]string{}
	for i, p := range s.Programs {
		scratch := filepath.Join(dir, fmt.Sprintf("program-%d", i))
		if err := os.Mkdir(scratch, 0o755); err != nil {
			return nil, err
		}
		if _, err := s.source(ctx, p, scratch, env, task); err != nil {
			return nil, fmt.Errorf("fetch the modules of %s: %w", p.From(), err)
		}
		sum, err := s.locked(p)
		if err != nil {
			return nil, err
		}
		f, err := s.fetch(ctx, p, scratch, sum)
		if err != nil {
			return nil, err
		}
		if p.Module == "" {
			files[SourceItem(sum)] = f.zip
			continue
		}
		name, err := proxyName(f.Version)
		if err != nil {
			return nil, err
		}
		files[name+".zip"], files[name+".mod"] = f.zip, strings.TrimSuffix(f.zip, ".zip")+".mod"
	}
	root := filepath.Join(dir, "modules", "cache", "download")
	if _, err := os.Stat(root); errors.Is(err, os.ErrNotExist) {
		return files, nil // the programs use only the standard library
	}
	names, err := gobuild.ProxyFiles(root)
	for _, name := range names {
		files[name] = filepath.Join(root, filepath.FromSlash(name))
	}
	return files, err
}
