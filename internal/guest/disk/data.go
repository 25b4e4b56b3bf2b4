//go:build linux

package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/filesystem"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// e2fsckPath is e2fsck's path in Alpine and Debian.
const e2fsckPath = "/sbin/e2fsck"

// Data is a disk on which services keep data: the data disk, or a volume of the recipe. Its
// exported fields are set before Mount and not changed.
type Data struct {
	Spec    guestspec.Data
	Volume  string // its name; empty: it is the data disk
	Path    string // PATH of e2fsck
	Key     string // opens an encrypted disk
	OldKey  string // the previous key, which Key replaces; may be empty
	Reaper  *process.Reaper
	Console *journal.Console
	Problem func(about string, err error) // reports a problem for the status

	trimming sync.Mutex // held while the disk is trimmed

	mu      sync.Mutex
	device  string
	mounted bool
	fault   string // why it is not mounted

	encrypted string // device; empty: it is not encrypted, or not open
	overhead  int64  // bytes by which the encrypted device is larger than the decrypted one
	oldKey    bool   // OldKey still unlocks it
}

// Name returns the disk's name for messages.
func (d *Data) Name() string {
	if d.Volume != "" {
		return "volume " + d.Volume
	}
	return "data disk"
}

// Mount finds, unlocks, checks and mounts the disk. It formats only a new disk that must be
// encrypted. It never formats another disk, even a damaged one, because it contains the user's
// data.
func (d *Data) Mount(ctx context.Context) error {
	device, err := d.mount(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.fault = err.Error()
		return err
	}
	d.device, d.mounted = device, true
	d.Console.Log(journal.Info, journal.InitName, d.Name()+" mounted", "device", device, "path", d.Spec.Path)
	return nil
}

func (d *Data) mount(ctx context.Context) (device string, err error) {
	if d.Spec.Encrypted {
		device, err = d.unlock(ctx)
	} else {
		device, err = d.findExt4(d.Spec.Wait.Or(0))
	}
	if err != nil {
		return "", err
	}
	if err := d.check(ctx, device); err != nil {
		return "", err
	}
	// After an error the file system becomes read-only, so that PostgreSQL stops instead of
	// spreading the damage.
	err = filesystem.MountOnce(device, d.Spec.Path, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, "errors=remount-ro")
	return device, err
}

// check replays the journal and makes safe repairs (e2fsck -p). The exit status of e2fsck(8) is a
// bit mask: 1 and 2 mean corrected errors (2 also requires a reboot after a check of the mounted
// root, which this is not), 4 and more mean remaining errors.
func (d *Data) check(ctx context.Context, device string) error {
	if _, err := os.Stat(e2fsckPath); errors.Is(err, fs.ErrNotExist) {
		d.Console.Log(journal.Warn, journal.InitName, "the image has no "+e2fsckPath+": the "+d.Name()+" is mounted unchecked")
		return nil
	}
	err := d.command("e2fsck", e2fsckPath, "-p", device).Run(ctx, d.Reaper)
	var end *process.ExitError
	if errors.As(err, &end) && end.Status.Exited() && end.Status.ExitStatus() < 4 {
		d.Console.Log(journal.Warn, journal.InitName, "e2fsck repaired the "+d.Name(), "device", device)
		return nil
	}
	if err != nil {
		return fmt.Errorf("check the %s, %s: %w: it needs e2fsck by hand, from a copy", d.Name(), device, err)
	}
	return nil
}

// command returns the command of a program for the disk.
func (d *Data) command(name string, argv ...string) process.Command {
	return process.Command{
		Argv: argv, User: "root", Path: d.Path, Dir: "/", Name: name,
		Env:  map[string]string{"DM_DISABLE_UDEV": "1"}, // udev is not running, so libdevmapper must create device nodes itself
		Line: func(line string) { d.Console.Output(name, line) },
	}
}

// Release syncs and unmounts the disk, or remounts it read-only if a process that cannot be killed
// still uses it.
func (d *Data) Release() {
	unix.Sync()
	d.mu.Lock()
	mounted := d.mounted
	d.mounted = false
	d.mu.Unlock()
	if !mounted {
		return
	}
	d.trimming.Lock()
	defer d.trimming.Unlock()
	for _, path := range filesystem.MountsBelow(d.Spec.Path) {
		if err := unix.Unmount(path, 0); err != nil {
			d.Console.Log(journal.Warn, journal.InitName, "cannot unmount", "path", path, "error", err)
		}
	}
	err := unix.Unmount(d.Spec.Path, 0)
	if err == nil {
		d.Console.Log(journal.Info, journal.InitName, d.Name()+" unmounted")
		return
	}
	d.Console.Log(journal.Warn, journal.InitName, "cannot unmount the "+d.Name()+", making it read-only", "error", err)
	if err := unix.Mount("", d.Spec.Path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		d.Console.Log(journal.Error, journal.InitName, "cannot make the "+d.Name()+" read-only", "error", err)
	}
	unix.Sync()
}

// Status returns the disk's part of the guest's status.
func (d *Data) Status() guestapi.Data {
	d.mu.Lock()
	data := guestapi.Data{Path: d.Spec.Path, Fault: d.fault, OldKey: d.oldKey}
	if d.Spec.Encrypted {
		data.Encryption = guestapi.LUKS2
	}
	mounted := d.mounted
	d.mu.Unlock()
	var s unix.Statfs_t
	if mounted && unix.Statfs(data.Path, &s) == nil {
		data.Size = int64(s.Blocks) * s.Bsize
		data.Free = int64(s.Bavail) * s.Bsize
		data.Warning = d.spaceWarning(data.Size, data.Free)
	}
	return data
}
