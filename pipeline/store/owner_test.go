package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestForeignFolders opens stores that another user owns or can write to.
func TestForeignFolders(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"group can write":      func(dir string) error { return os.Chmod(dir, 0o775) },
		"world-writable":       func(dir string) error { return os.Chmod(dir, 0o777) },
		"sticky as /tmp":       func(dir string) error { return os.Chmod(dir, 0o777|os.ModeSticky) },
		"actions can be added": func(dir string) error { return os.Chmod(filepath.Join(dir, "actions"), 0o777) },
		"stamps can be added":  func(dir string) error { return os.Chmod(filepath.Join(dir, "stamps"), 0o757) },
		"is another's":         func(dir string) error { return os.Chown(dir, 4711, 4711) },
		"actions are another's": func(dir string) error {
			return os.Chown(filepath.Join(dir, "actions"), 4711, 4711)
		},
	} {
		dir := filepath.Join(t.TempDir(), "cache")
		openStore(t, dir)
		err := spoil(dir)
		if errors.Is(err, os.ErrPermission) {
			continue // only root can change the owner
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(dir)
		if foreign := new(ForeignError); !errors.As(err, &foreign) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForeignStamp opens a blob that was changed and whose stamp another user owns or can write to.
func TestForeignStamp(t *testing.T) {
	s := openStore(t, t.TempDir())
	good := put(t, s, []byte("content"))
	path := s.blobPath(good.Digest)
	for name, spoil := range map[string]func() error{
		"can be written": func() error { return os.Chmod(s.stampPath(good.Digest), 0o666) },
		"is another's":   func() error { return os.Chown(s.stampPath(good.Digest), 4711, 4711) },
	} {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("CONTENT"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		st, err := stampOf(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		s.writeStamp(good.Digest, st)
		if s.readStamp(good.Digest) != st {
			t.Fatal("the stamp is not as it was written")
		}
		if err := spoil(); errors.Is(err, os.ErrPermission) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if f, err := s.Open(good); err == nil {
			f.Close()
			t.Errorf("a stamp that %s is believed", name)
		}
		put(t, s, []byte("content"))
	}
}
