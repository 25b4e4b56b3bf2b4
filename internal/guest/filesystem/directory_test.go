//go:build linux

package filesystem

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

func TestMakeDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("changing owners needs root")
	}
	dir := t.TempDir()
	d := guestspec.Directory{Path: filepath.Join(dir, "a/b"), Mode: "2750", User: "nobody"}
	must(t, MakeDirectory(d))
	must(t, os.WriteFile(filepath.Join(d.Path, "kept"), nil, 0o600))
	must(t, os.Chmod(d.Path, 0o777))
	must(t, MakeDirectory(d)) // a second call succeeds, and repairs the directory
	var s unix.Stat_t
	must(t, unix.Stat(d.Path, &s))
	if s.Mode&0o7777 != 0o2750 || s.Uid != 65534 {
		t.Errorf("mode %o, owner %d", s.Mode&0o7777, s.Uid)
	}
	if _, err := os.Stat(filepath.Join(d.Path, "kept")); err != nil {
		t.Error(err)
	}

	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	must(t, os.Mkdir(target, 0o700))
	must(t, os.Symlink(target, link))
	if err := MakeDirectory(guestspec.Directory{Path: link, Mode: "0777", User: "nobody"}); err == nil {
		t.Error("a symbolic link is taken for the directory")
	}
	must(t, unix.Stat(target, &s))
	if s.Mode&0o7777 != 0o700 || s.Uid != 0 {
		t.Errorf("the link's target now has mode %o, owner %d", s.Mode&0o7777, s.Uid)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
