// Package copies is the stage that copies files from other images, as the recipe's key copy lists
// them. It is a share of the root file system. Stages of package base fetch the images.
package copies

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// Name is the stage's name.
const Name = "copies"

// Options say what to copy.
type Options struct {
	Images     []overlay.Share // the images' layers
	References []string        // of Images, as Copies name them
	Copies     []recipe.Copy
}

// New returns the stage.
func New(o Options) pipeline.Stage { return overlay.Share{Stage: &stage{o}} }

type stage struct{ Options }

func (s *stage) Name() string    { return Name }
func (s *stage) Needs() []string { return overlay.Names(s.Images) }

// Key does not include references: the images' digests are inputs.
func (s *stage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	output.Version(k, 1)
	for i, c := range s.Copies {
		k.Add(fmt.Sprintf("copy %d", i), []string{s.image(c).Name(), c.Path, c.To})
	}
	return nil
}

func (s *stage) image(c recipe.Copy) overlay.Share {
	return s.Images[slices.Index(s.References, c.From)]
}

func (s *stage) Run(_ context.Context, j *pipeline.Job) error {
	w, err := j.Create(Name + overlay.Suffix)
	if err != nil {
		return err
	}
	defer w.Abort()
	t := tar.NewWriter(w)
	for _, c := range s.Copies {
		if err := copyOne(j, t, s.image(c), c); err != nil {
			return fmt.Errorf("copy %s of image %s: %w", c.Path, c.From, err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("write output %s: %w", Name, err)
	}
	_, err = w.Commit()
	return err
}

// copyOne writes what a path refers to, owned by root as with COPY of docker build: the image's
// accounts are not those of this machine.
func copyOne(j *pipeline.Job, t *tar.Writer, image overlay.Share, c recipe.Copy) error {
	merged, err := overlay.Merge(j, image)
	if err != nil {
		return err
	}
	defer merged.Close()
	_, n, err := merged.Resolve(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the image has no such file or directory")
	}
	if err != nil {
		return err
	}
	return tree.WriteEntries(t, strings.TrimPrefix(c.To, "/"), n, func(h *tar.Header) { h.Uid, h.Gid = 0, 0 })
}
