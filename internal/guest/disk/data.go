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

// e2fsckPath is where Alpine and Debian have it.
const e2fsckPath = "/sbin/e2fsck"

// Data is a disk on which services keep data: the data disk, or a volume of the recipe. Its
// exported fields are set before Mount and not changed.
type Data struct {
	Spec    guestspec.Data
	Volume  string // its name; empty: it is the data disk
	Path    string // PATH of e2fsck
	Key     string // opens an encrypted disk
	OldKey  string // the one before, which Key replaces; empty: none
	Reaper  *process.Reaper
	Console *journal.Console
	Problem func(about string, err error) // gets what the status has to show

	trimming sync.Mutex // held while the disk is trimmed

	mu      sync.Mutex
	device  string
	mounted bool
	fault   string // why it is not mounted

	encrypted string // device; empty: it is not encrypted, or not open
	overhead  int64  // bytes that it has more than what is in it
	oldKey    bool   // OldKey still opens it
}

// Name is what messages call the disk.
func (d *Data) Name() string {
	if d.Volume != "" {
		return "volume " + d.Volume
	}
	return "data disk"
}

// Mount finds, opens, checks and mounts the disk. It formats only a disk that was just made and is
// to be encrypted: whatever is wrong with another one, what is on it is the user's.
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
	// After an error the kernel is to write no more: PostgreSQL stops rather than spreads it.
	err = filesystem.MountOnce(device, d.Spec.Path, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, "errors=remount-ro")
	return device, err
}

// check replays the journal and repairs what can be repaired without a decision. The exit
// status of e2fsck(8) is a sum: 1 and 2 are faults that it corrected (2: a mounted root must be
// rebooted, which this is not), from 4 on there is something left.
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

// command describes a program that works on the disk.
func (d *Data) command(name string, argv ...string) process.Command {
	return process.Command{
		Argv: argv, User: "root", Path: d.Path, Dir: "/", Name: name,
		Env:  map[string]string{"DM_DISABLE_UDEV": "1"}, // no udev answers libdevmapper, which makes device nodes itself then
		Line: func(line string) { d.Console.Output(name, line) },
	}
}

// Release writes everything out and unmounts the disk, or makes it read-only when a process
// that cannot be killed still holds it.
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

// Status is the disk's part of the guest's status.
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
