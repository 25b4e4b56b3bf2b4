// Package overlay merges the files of stages into one tree. A stage that puts files into the root
// file system is a Share. Shares are applied in the order of the graph's list of stages.
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
	"github.com/sovereign-sql/sov/stages/output"
)

// A Merged is a tree whose contents are in open blobs.
type Merged struct {
	*tree.Tree
	files []*os.File
}

// Merge applies the shares in the order given. Whiteouts in a share remove what
// the shares before it have. The Merged must be closed; its contents cannot be
// read after that.
func Merge(src output.Source, shares ...Share) (*Merged, error) {
	m := &Merged{Tree: tree.New()}
	for _, share := range shares {
		if err := m.add(src, share); err != nil {
			m.Close()
			return nil, err
		}
	}
	return m, nil
}

func (m *Merged) add(src output.Source, share Share) error {
	empty := true
	for _, o := range src.Outputs(share.Name()) {
		if !strings.HasSuffix(o.Name, Suffix) {
			continue
		}
		empty = false
		if err := m.apply(src, o.Blob, share); err != nil {
			return fmt.Errorf("apply %s of stage %s: %w", o.Name, share.Name(), err)
		}
	}
	if empty && !share.MayBeEmpty {
		return fmt.Errorf("stage %s is a share of the root file system and has no output named *%s", share.Name(), Suffix)
	}
	return nil
}

func (m *Merged) apply(src output.Source, b pipeline.Blob, share Share) error {
	f, err := src.Open(b)
	if err != nil {
		return err
	}
	m.files = append(m.files, f)
	return share.apply(m.Tree, f, b.Size)
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

// Newest returns the newest modification time in a tree. It is the time of generated files: it is
// plausible, and the same for every build of the same inputs.
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

// ReadFile returns the content of a regular file of at most limit bytes. It follows symbolic links.
// The error for a missing file matches fs.ErrNotExist.
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
