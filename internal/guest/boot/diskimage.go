//go:build linux

package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/disk"
)

// enterRoot goes on in the root file system if this is the boot partition of a disk image, and does
// not return then. Anywhere else, as on a phone, whose kernel has mapped the root file system
// itself, it does nothing. The kernel has mounted /dev.
func enterRoot() error {
	table, err := os.ReadFile(guestspec.RootMappingPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	device, err := disk.MapReadOnly("root", string(table))
	if err != nil {
		return err
	}
	root := guestspec.NewRoot
	if err := unix.Mount(device, root, "ext4", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount the root file system %s: %w", device, err)
	}
	if err := unix.Mount("/dev", root+"/dev", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move /dev into the root file system: %w", err)
	}
	// The boot partition ends up below the new root, and is let go when this program is another
	// (pivot_root(2)).
	if err := errors.Join(unix.Chdir(root), unix.PivotRoot(".", "."), unix.Unmount(".", unix.MNT_DETACH), unix.Chdir("/")); err != nil {
		return fmt.Errorf("enter the root file system: %w", err)
	}
	return fmt.Errorf("start %s of the root file system: %w", guestspec.InitPath, unix.Exec(guestspec.InitPath, os.Args, os.Environ()))
}
