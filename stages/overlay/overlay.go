// Package overlay puts the file trees that stages make on top of each other. A
// stage's share of the root file system is its outputs named *.tar, applied in
// the order in which it wrote them; the shares of several stages are applied in
// the order in which the stages are named.
package overlay

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
)

// Suffix marks the outputs that are a share of the root file system.
const Suffix = ".tar"

// TarOptions is how the share of a stage is applied. In the layers of an image a
// directory takes the place of a symbolic link, as the OCI image specification
// has it. Elsewhere it never does: packages bring /sbin as a directory where a
// base image may have a link to /usr/sbin, and apk keeps the link.
func TarOptions(stage string) tree.TarOptions {
	return tree.TarOptions{Whiteouts: true, KeepDirSymlinks: stage != Order[0]}
}

// A Source has the outputs of stages. *pipeline.Job is one.
type Source interface {
	Outputs(stage string) []pipeline.Output
	Open(b pipeline.Blob) (*os.File, error)
}

// Order is the order in which the stages' shares make the root file system.
var Order = []string{"base", "packages", "tailscale", "guestinit", "postgres"}

// A Merged is a tree whose contents stand in open blobs.
type Merged struct {
	*tree.Tree
	files []*os.File
}

// Merge applies the shares of the stages in the order given. Whiteouts in any
// of them take away what the ones before have. The Merged must be closed, after
// which its contents cannot be read any more.
func Merge(src Source, stages ...string) (*Merged, error) {
	m := &Merged{Tree: tree.New()}
	for _, stage := range stages {
		for _, o := range src.Outputs(stage) {
			if !strings.HasSuffix(o.Name, Suffix) {
				continue
			}
			if err := m.apply(src, o.Blob, TarOptions(stage)); err != nil {
				m.Close()
				return nil, fmt.Errorf("apply %s of stage %s: %w", o.Name, stage, err)
			}
		}
	}
	return m, nil
}

func (m *Merged) apply(src Source, b pipeline.Blob, o tree.TarOptions) error {
	f, err := src.Open(b)
	if err != nil {
		return err
	}
	m.files = append(m.files, f)
	return m.ApplyTar(f, b.Size, o)
}

// Close closes the blobs.
func (m *Merged) Close() error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, f.Close())
	}
	m.files = nil
	return errors.Join(errs...)
}

// Newest returns the newest modification time in a tree. It dates the files
// that the build generates: a time is needed that is the same for every build
// of the same inputs, and one that no reader finds strange.
func Newest(t *tree.Tree) (time.Time, error) {
	newest := time.Unix(0, 0).UTC()
	err := t.Walk(func(_ string, n *tree.Inode) error {
		if n.ModTime.After(newest) {
			newest = n.ModTime.UTC()
		}
		return nil
	})
	return newest.Truncate(time.Second), err
}

// ReadFile returns the content of a regular file of at most limit bytes,
// symbolic links followed. A missing one is an error that matches
// fs.ErrNotExist.
func ReadFile(t *tree.Tree, path string, limit int64) ([]byte, error) {
	_, n, err := t.Resolve(path)
	if err != nil {
		return nil, err
	}
	if !n.IsRegular() || n.Content.Size > limit {
		return nil, fmt.Errorf("read %s: not a regular file of at most %d bytes", path, limit)
	}
	b, err := io.ReadAll(n.Content.Open())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}
