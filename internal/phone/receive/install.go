package receive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/chunk"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
)

// Install installs the version in a folder or in an archive on the phone, see zip.Reader.
func (r *Receiver) Install(ctx context.Context, from fs.FS, report func(pushapi.Progress)) (*pushapi.Done, error) {
	if report == nil {
		report = func(pushapi.Progress) {}
	}
	lock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	var texts [2][]byte
	for i, name := range []string{artifact.ManifestFile, artifact.SpecFile} {
		if texts[i], err = readText(from, name); err != nil {
			return nil, fmt.Errorf("install %s: %w", r.VM.Name, err)
		}
	}
	a, err := r.parse(texts[0], texts[1])
	if err != nil {
		return nil, err
	}
	v := version{Artifact: a, allowDowngrade: r.AllowDowngrade}
	if v.signature, err = readText(from, artifact.SignedFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("install %s: %w", r.VM.Name, err)
	}
	if slot, ok, err := r.installed(ctx, v, report); ok || err != nil {
		return &pushapi.Done{Slot: slot, Unchanged: true}, err
	}
	var sizes []int64
	for _, f := range installed.Streamed(a) {
		sizes = append(sizes, f.Size) // holes are not known yet
	}
	s, err := begin(r, v, sizes, report)
	if err != nil {
		return nil, err
	}
	for _, f := range s.files {
		if err := s.copyFile(ctx, from, f); err != nil {
			return nil, fmt.Errorf("install %s: %w", f.Name, explainWrite(err))
		}
	}
	return &pushapi.Done{Slot: s.target}, s.finish(ctx)
}

func readText(from fs.FS, name string) ([]byte, error) {
	f, err := from.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := bound.ReadAll(f, installed.MaxText)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return text, nil
}

// copyFile copies a file of from, up to the size in the manifest.
func (s *assembly) copyFile(ctx context.Context, from fs.FS, want manifest.File) (err error) {
	src, err := from.Open(want.Name)
	if err != nil {
		return err
	}
	defer src.Close()
	w, err := newWriter(s.path(want.Name), 0)
	if err != nil {
		return err
	}
	err = chunk.Each(io.LimitReader(src, want.Size), func(c chunk.Chunk, content []byte) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		s.note(int64(c.Size))
		if c.Zero {
			return w.hole(int64(c.Size))
		}
		_, err := w.Write(content)
		return err
	})
	return errors.Join(err, w.finish())
}
