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

// MakeDirectory creates d, or sets its owner and mode if it exists. A symbolic link is an error: a
// service that owns the parent directory could point it anywhere.
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
	// After chown, which clears setgid. File.Chmod encodes the bits above 0777 differently.
	if err := unix.Fchmod(int(f.Fd()), parseMode(d.Mode)); err != nil {
		return fmt.Errorf("make directory: chmod %s: %w", d.Path, err)
	}
	return nil
}

// parseMode converts four octal digits, which guestspec has validated, to permission bits.
func parseMode(octal string) uint32 {
	n, _ := strconv.ParseUint(octal, 8, 32)
	return uint32(n)
}
