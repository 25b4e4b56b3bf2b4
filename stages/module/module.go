// Package module is the stage that makes an artifact a module for root managers (KernelSU, APatch,
// Magisk): one zip file that installs sov-runner and the machine on a phone without a computer. Its
// scripts are in assets/module; they call `sov-runner install`, which manages the slots.
//
// The stage runs on demand: compressing an image takes longer than the rest of a build after a
// changed setting.
package module

import (
	"context"
	"io"
	"io/fs"

	"github.com/sovereign-sql/sov/assets"
	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/bundle"
	"github.com/sovereign-sql/sov/stages/output"
)

// Name is the stage's name and the format's name for --format.
const Name = "module"

// New returns the stage.
func New() pipeline.Stage { return &stage{} }

type stage struct{}

func (s *stage) Name() string    { return Name }
func (s *stage) Needs() []string { return []string{bundle.Name} }

func (s *stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	output.Version(k, 1)
	return fs.WalkDir(assets.Module, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := assets.Module.ReadFile(path)
		k.Add(path, pipeline.DigestOf(text))
		return err
	})
}

func (s *stage) Run(ctx context.Context, j *pipeline.Job) error {
	var texts [2][]byte
	for i, name := range []string{artifact.ManifestFile, artifact.SpecFile} {
		var err error
		if texts[i], err = j.ReadFile(bundle.Name, name); err != nil {
			return err
		}
	}
	a, err := installed.Parse(texts[0], texts[1])
	if err != nil {
		return err
	}
	scratch, err := j.Scratch()
	if err != nil {
		return err
	}
	w, err := j.Create(artifact.ModuleFile(a.Manifest.Name))
	if err != nil {
		return err
	}
	defer w.Abort()
	open := func(name string) (io.ReadCloser, error) {
		b, err := j.Output(bundle.Name, name)
		if err != nil {
			return nil, err
		}
		j.Progress().Step("compress " + name)
		return j.Open(b)
	}
	if err := Write(ctx, w, a.Manifest, a.Files, open, scratch); err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}
