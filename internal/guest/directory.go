//go:build linux

package guest

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// makeDirectory makes d, or gives it its owner and mode if it exists. A symbolic link in its
// place is an error: the service that owns the directory above could point it anywhere.
func makeDirectory(d guestspec.Directory) error {
	cred, _, err := credential(d.User, d.Group)
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
