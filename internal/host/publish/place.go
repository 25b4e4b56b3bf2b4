package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/durable"
)

// A Replacer replaces the artifact in dir atomically with the files in names, which fill writes to
// a staging directory on the same file system.
type Replacer func(dir string, names []string, fill func(staging string) error) error

// Place downloads the machine to OUT/NAME/ARCH and reports whether anything changed there. The
// files of an interrupted Place stay beside it, in a directory whose name begins with a dot, and
// the next Place of the same machine resumes from there. Files that the artifact there already has
// are copied instead of fetched.
func (m *Machine) Place(ctx context.Context, out string, replace Replacer) (dir string, changed bool, err error) {
	parent := filepath.Join(out, m.Manifest.Name)
	dir = filepath.Join(parent, m.Manifest.Arch)
	if same, err := m.isAt(ctx, dir); same || err != nil {
		return dir, false, err
	}
	partial := filepath.Join(parent, "."+m.Manifest.Arch+".pull-"+m.Reference[len(m.Reference)-12:])
	lock, err := lockPartial(ctx, partial)
	if err != nil {
		return dir, false, fmt.Errorf("pull to %s: %w", dir, err)
	}
	defer lock.Release()
	// The pull that held the lock before may have placed the same machine.
	if same, err := m.isAt(ctx, dir); same || err != nil {
		return dir, false, errors.Join(err, os.RemoveAll(partial))
	}
	if err := m.seed(ctx, partial, dir); err != nil {
		return dir, false, fmt.Errorf("pull to %s: %w", dir, err)
	}
	if err := m.Download(ctx, partial); err != nil {
		return dir, false, fmt.Errorf("%w (downloaded files are kept: pull again to resume)", err)
	}
	err = replace(dir, m.Names(), func(staging string) error {
		for _, name := range m.Names() {
			if err := os.Rename(filepath.Join(partial, name), filepath.Join(staging, name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return dir, false, fmt.Errorf("pull to %s: %w", dir, err)
	}
	return dir, true, errors.Join(os.RemoveAll(partial), removeOthers(partial))
}

// isAt reports whether a directory already has exactly this machine.
func (m *Machine) isAt(ctx context.Context, dir string) (bool, error) {
	for name, want := range m.documents {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			return false, nil
		}
	}
	problems, err := manifest.Verify(ctx, dir)
	return err == nil && len(problems) == 0, err
}

// seed copies the files that the artifact in from has in common with the machine. Download checks
// them.
func (m *Machine) seed(ctx context.Context, partial, from string) error {
	old, err := manifest.Load(from)
	if err != nil {
		return nil // there is nothing to copy
	}
	for _, l := range m.layers {
		name := l.Annotations[titleKey]
		f, ok := old.File(name)
		if _, err := os.Lstat(filepath.Join(partial, name)); !ok || f.SHA256 != l.Digest.Hex || err == nil {
			continue
		}
		if err := copyFile(ctx, filepath.Join(partial, name), filepath.Join(from, name)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(ctx context.Context, to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = copyContext(ctx, dst, src)
	return errors.Join(err, dst.Close())
}

// lockPartial creates the directory of a pull and locks it. It creates it again if the previous
// holder of the lock removed it.
func lockPartial(ctx context.Context, dir string) (*durable.Lock, error) {
	for {
		if err := durable.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		l, err := durable.WaitLock(ctx, dir, durable.Exclusive, durable.LockOptions{Existing: true})
		if !errors.Is(err, fs.ErrNotExist) {
			return l, err
		}
	}
}

// removeOthers removes the directories of interrupted pulls of other machines to the same place.
// Those of running pulls are locked and stay.
func removeOthers(partial string) error {
	base := filepath.Base(partial)
	others, err := filepath.Glob(filepath.Join(filepath.Dir(partial), base[:len(base)-12]+"*"))
	if err != nil {
		return err
	}
	for _, other := range others {
		l, err := durable.TryLock(other, durable.Exclusive, durable.LockOptions{Existing: true})
		if err != nil {
			continue
		}
		err = os.RemoveAll(other)
		l.Release()
		if err != nil {
			return err
		}
	}
	return nil
}
