// Package bundle is the stage that puts the artifact together. Its outputs are the artifact's
// files, under their names: the root file system, the kernel, vm.json for the program that starts
// the machine, the bill of materials, the manifest, the provenance, and SHA256SUMS.
package bundle

import (
	"bytes"
	"context"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/verity"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
	"github.com/sovereign-sql/sov/stages/packages"
	"github.com/sovereign-sql/sov/stages/postgres"
	"github.com/sovereign-sql/sov/stages/rootfs"
	"github.com/sovereign-sql/sov/stages/runner"
)

// Name is the stage's name.
const Name = "bundle"

// Options describe the artifact.
type Options struct {
	Recipe     *recipe.Recipe
	RecipeText []byte // the recipe's source
	Arch       string // "arm64" or "amd64"
	Made       lock.Entry
	Builder    string // sov's version, for the provenance
	// Below are the base image and the packages. They determine the distribution.
	Below []overlay.Share
	// Programs are the shares that hold Go programs, for the bill of materials.
	Programs []overlay.Share
}

// New returns the stage.
func New(o Options) pipeline.Stage { return &stage{o} }

type stage struct{ Options }

func (s *stage) Name() string { return Name }

func (s *stage) Needs() []string {
	needs := slices.Concat([]string{rootfs.Name, kernel.Name, runner.Name}, overlay.Names(s.Below), overlay.Names(s.Programs))
	if s.Recipe.Postgres.Enabled {
		needs = append(needs, postgres.Name)
	}
	return needs
}

func (s *stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	vm, err := spec(s.Recipe, s.Arch, nil)
	if err != nil {
		return err
	}
	output.Version(k, 6)
	k.Add("artifact", map[string]string{"name": s.Recipe.Name, "version": s.Recipe.Version, "description": s.Recipe.Description, "arch": s.Arch})
	k.Add("vm", vm)
	labels := map[string]bool{}
	for _, in := range s.inputs() {
		label := in.Kind + " " + in.Name
		for labels[label] {
			label += " again" // files are also copied from the base image
		}
		labels[label] = true
		k.Add(label, in)
	}
	k.Add("parameters", s.parameters())
	k.Add("builder", s.Builder)
	return nil
}

func (s *stage) Run(_ context.Context, j *pipeline.Job) error {
	var files []manifest.File
	for _, from := range []struct{ stage, output, name string }{
		{rootfs.Name, artifact.RootfsFile, artifact.RootfsFile},
		{kernel.Name, kernel.ImageOutput, artifact.KernelFile},
		{runner.Name, artifact.RunnerFile, artifact.RunnerFile},
	} {
		b, err := j.Output(from.stage, from.output)
		if err != nil {
			return err
		}
		if err := j.Attach(from.name, b); err != nil {
			return err
		}
		files = append(files, entry(from.name, b))
	}
	for _, part := range []struct {
		name string
		make func(*pipeline.Job) ([]byte, error)
	}{{artifact.SpecFile, s.vm}, {artifact.SBOMFile, s.sbom}} {
		content, err := part.make(j)
		if err != nil {
			return err
		}
		b, err := j.Write(part.name, content)
		if err != nil {
			return err
		}
		files = append(files, entry(part.name, b))
	}
	return s.seal(j, files)
}

// sealed returns the parameters of the root file system's hash tree and its root hash.
func sealed(j *pipeline.Job) (*manifest.Verity, verity.Digest, error) {
	var info rootfs.Info
	if err := output.ReadJSON(j, rootfs.Name, rootfs.StatsFile, &info); err != nil {
		return nil, verity.Digest{}, err
	}
	v := &manifest.Verity{File: artifact.RootfsFile, DataSize: info.Size, RootHash: info.RootHash}
	root, err := v.Root()
	return v, root, err
}

func entry(name string, b pipeline.Blob) manifest.File {
	return manifest.File{Name: name, Size: b.Size, SHA256: b.Digest.Hex()}
}

// seal writes the manifest, the provenance and SHA256SUMS.
func (s *stage) seal(j *pipeline.Job, files []manifest.File) error {
	slices.SortFunc(files, func(a, b manifest.File) int { return strings.Compare(a.Name, b.Name) })
	tree, _, err := sealed(j)
	if err != nil {
		return err
	}
	m := &manifest.Manifest{Format: manifest.Format, Name: s.Recipe.Name, Version: s.Recipe.Version,
		Description: s.Recipe.Description, Arch: s.Arch, Files: files, Inputs: s.inputs(), Verity: tree}
	if s.Recipe.Postgres.Enabled {
		var server postgres.Server
		if err := output.ReadJSON(j, postgres.Name, postgres.ServerFile, &server); err != nil {
			return err
		}
		m.Postgres = server.Majors()
	}
	text, err := m.Encode()
	if err != nil {
		return err
	}
	b, err := j.Write(artifact.ManifestFile, text)
	if err != nil {
		return err
	}
	all := append(files, entry(artifact.ManifestFile, b))
	slices.SortFunc(all, func(a, b manifest.File) int { return strings.Compare(a.Name, b.Name) })
	if text, err = s.statement(j, all); err != nil {
		return err
	}
	if b, err = j.Write(artifact.ProvenanceFile, text); err != nil {
		return err
	}
	_, err = j.Write(artifact.SumsFile, manifest.SumsFile(append(all, entry(artifact.ProvenanceFile, b))))
	return err
}

func (s *stage) vm(j *pipeline.Job) ([]byte, error) {
	tree, root, err := sealed(j)
	if err != nil {
		return nil, err
	}
	vm, err := spec(s.Recipe, s.Arch, verity.Parameters(vmspec.RootDevice, tree.DataSize, root))
	if err != nil {
		return nil, err
	}
	return vm.Encode()
}

func (s *stage) sbom(j *pipeline.Job) ([]byte, error) {
	var list []packages.Installed
	if err := output.ReadJSON(j, packages.Name, packages.ListFile, &list); err != nil {
		return nil, err
	}
	var info kernel.Info
	if err := output.ReadJSON(j, kernel.Name, kernel.InfoOutput, &info); err != nil {
		return nil, err
	}
	below, err := overlay.Merge(j, s.Below...)
	if err != nil {
		return nil, err
	}
	defer below.Close()
	d, err := distributionOf(below.Tree)
	if err != nil {
		return nil, err
	}
	components := append(packageComponents(list, d), kernelComponent(info))
	components = append(components, d.component()...)
	modules, err := s.modules(j)
	if err != nil {
		return nil, err
	}
	return sbom(s.Recipe, s.Arch, append(components, modules...))
}

func (s *stage) modules(j *pipeline.Job) ([]cdx.Component, error) {
	programs, err := overlay.Merge(j, s.Programs...)
	if err != nil {
		return nil, err
	}
	defer programs.Close()
	components, err := goComponents(programs.Tree)
	if err != nil {
		return nil, err
	}
	program, err := j.ReadFile(runner.Name, artifact.RunnerFile)
	if err != nil {
		return nil, err
	}
	return append(components, modulesOf(bytes.NewReader(program))...), nil
}
