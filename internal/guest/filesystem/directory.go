//go:build linux

package filesystem

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// MakeDirectory makes d, or gives it its owner and mode if it exists. A symbolic link in its
// place is an error: the service that owns the directory above could point it anywhere.
func MakeDirectory(d guestspec.Directory) error {
	cred, _, err := process.Credential(d.User, d.Group)
	if err != nil {
		return fmt.Errorf("make %s: %w", d.Path, err)
	}
	if err := os.MkdirAll(d.Path, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	f, err := os.OpenFile(d.Path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer f.Close()
	if err := f.Chown(int(cred.Uid), int(cred.Gid)); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	// After chown, which clears setgid. File.Chmod has its own idea of the bits above 0777.
	if err := unix.Fchmod(int(f.Fd()), parseMode(d.Mode)); err != nil {
		return fmt.Errorf("make directory: chmod %s: %w", d.Path, err)
	}
	return nil
}

// parseMode turns four octal digits, which guestspec has checked, into permission bits.
func parseMode(octal string) uint32 {
	n, _ := strconv.ParseUint(octal, 8, 32)
	return uint32(n)
}
