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

// enterRoot switches to the root file system if the guest runs from the boot partition of a disk
// image; it does not return then. Otherwise it does nothing, as on a phone, where the kernel has
// mapped the root file system. The kernel has mounted /dev.
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
	// The boot partition is now mounted below the new root, and is released at execve
	// (pivot_root(2)).
	if err := errors.Join(unix.Chdir(root), unix.PivotRoot(".", "."), unix.Unmount(".", unix.MNT_DETACH), unix.Chdir("/")); err != nil {
		return fmt.Errorf("enter the root file system: %w", err)
	}
	return fmt.Errorf("start %s of the root file system: %w", guestspec.InitPath, unix.Exec(guestspec.InitPath, os.Args, os.Environ()))
}
