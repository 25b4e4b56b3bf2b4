package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// onlyRootWrites returns an error for a file that users other than root can change: this program
// acts on its content as root.
func onlyRootWrites(path string, info fs.FileInfo) error {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid != 0 {
		return fmt.Errorf("%s does not belong to root: chown 0:0 %[1]s", path)
	}
	// In a folder with the sticky bit, other users can create entries but not replace root's.
	if info.Mode().Perm()&0o022 != 0 && !(info.IsDir() && info.Mode()&fs.ModeSticky != 0) {
		return fmt.Errorf("%s can be written by others than root (mode %#o): chmod go-w %[1]s", path, info.Mode().Perm())
	}
	return nil
}

// checkTrusted returns an error if users other than root can change any part of a path, from the
// folder root on. The parent of that folder belongs to Android.
func checkTrusted(root, path string) error {
	relative, err := filepath.Rel(root, path)
	if err != nil || !filepath.IsLocal(relative) {
		return fmt.Errorf("%s is not below %s", path, root)
	}
	at := root
	for _, part := range append([]string{"."}, strings.Split(relative, string(filepath.Separator))...) {
		at = filepath.Join(at, part)
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		if info.Mode().Type() == fs.ModeSymlink {
			return fmt.Errorf("%s is a symbolic link, which is not followed here", at)
		}
		if err := onlyRootWrites(at, info); err != nil {
			return err
		}
	}
	return nil
}

// readTrusted reads a file of at most limit bytes that only root can change.
func readTrusted(root, path string, limit int64) ([]byte, error) {
	if err := checkTrusted(root, path); err != nil {
		return nil, err
	}
	return bound.ReadFile(path, limit)
}

// loadSecrets reads a machine's secrets by name. Only root may be able to write their folder and to
// read their files.
func loadSecrets(root phonepath.Root, vm phonepath.VM) (map[string]string, error) {
	entries, err := os.ReadDir(vm.Secrets())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	secrets := map[string]string{}
	for _, e := range entries {
		path := filepath.Join(vm.Secrets(), e.Name())
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("secrets: %w", err)
		}
		if !info.Mode().IsRegular() || !guestspec.ValidSecretName(e.Name()) {
			continue // a temporary file of a concurrent writer
		}
		if info.Mode().Perm()&0o077 != 0 {
			return nil, fmt.Errorf("secrets: %s can be read by others than root (mode %#o): chmod 600 %[1]s", path, info.Mode().Perm())
		}
		text, err := readTrusted(string(root), path, guestspec.MaxSecret)
		if err != nil {
			return nil, fmt.Errorf("secrets: %w", err)
		}
		secrets[e.Name()] = string(text)
	}
	return secrets, nil
}
