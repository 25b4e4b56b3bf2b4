package store

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// A ForeignError says that another user could change what builds take from a cache. Blobs are
// compared with their digests, but records and stamps, which say which blobs are results and which
// blobs were verified, are not protected.
type ForeignError struct{ Path, Why, Advice string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("cache folder %s: %s, who could change what builds take from it: %s, or choose another folder with --cache", e.Path, e.Why, e.Advice)
}

// foreign returns why users other than this one and root can write a file or folder, or "" if they
// cannot.
func foreign(info fs.FileInfo) (why, advice string) {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Sprintf("it belongs to user %d", st.Uid), "change its owner (chown -R)"
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Sprintf("its mode is %04o, so it can be written by other users", info.Mode().Perm()), "take that away (chmod -R go-w)"
	}
	return "", ""
}

// checkOwner returns an error for a store that other users can write.
func (s *Store) checkOwner() error {
	for _, sub := range append([]string{"", "blobs"}, folders...) {
		path := filepath.Join(s.dir, sub)
		info, err := os.Stat(path)
		if err != nil {
			continue // layout has made it, or has said why it could not
		}
		if why, advice := foreign(info); why != "" {
			return &ForeignError{path, why, advice}
		}
	}
	return nil
}

// readOwn reads a stamp or note. A file that another user owns or can write counts as missing.
func readOwn(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if why, _ := foreign(info); why != "" || !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist}
	}
	return os.ReadFile(path)
}
