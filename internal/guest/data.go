//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/filesystem"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// e2fsckPath is where Alpine and Debian have it.
const e2fsckPath = "/sbin/e2fsck"

// mountData finds, checks and mounts the data disk. It formats nothing: whatever is wrong with
// the disk, what is on it is the user's.
func (m *machine) mountData(ctx context.Context) error {
	device, err := findExt4(m.spec.Data.Label, m.spec.Data.Device, m.spec.Data.Wait.Or(0))
	if err != nil {
		return err
	}
	if err := m.checkData(ctx, device); err != nil {
		return err
	}
	// After an error the kernel is to write no more: PostgreSQL stops rather than spreads it.
	err = filesystem.MountOnce(device, m.spec.Data.Path, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, "errors=remount-ro")
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.dataMounted = true
	m.mu.Unlock()
	m.console.Log(journal.Info, journal.InitName, "data disk mounted", "device", device, "path", m.spec.Data.Path)
	if err := m.keepLogs(); err != nil {
		m.problem("logs are not kept", err)
	}
	m.spawn("data disk's space", func() { m.watchSpace(ctx, device) })
	return nil
}

// keepLogs has the log kept on the data disk from here on.
func (m *machine) keepLogs() error {
	dir := filepath.Join(m.spec.Data.Path, "log")
	if err := filesystem.MakeDirectory(guestspec.Directory{Path: dir, Mode: "0700", User: "root"}); err != nil {
		return err
	}
	m.journal.Attach(dir)
	return nil
}

// checkData replays the journal and repairs what can be repaired without a decision. The exit
// status of e2fsck(8) is a sum: 1 and 2 are faults that it corrected (2: a mounted root must be
// rebooted, which this is not), from 4 on there is something left.
func (m *machine) checkData(ctx context.Context, device string) error {
	if _, err := os.Stat(e2fsckPath); errors.Is(err, fs.ErrNotExist) {
		m.console.Log(journal.Warn, journal.InitName, "the image has no "+e2fsckPath+": the data disk is mounted unchecked")
		return nil
	}
	check := process.Command{
		Argv: []string{e2fsckPath, "-p", device}, User: "root", Path: m.spec.Path, Dir: "/", Name: "e2fsck",
		Line: func(line string) { m.console.Output("e2fsck", line) },
	}
	err := check.Run(ctx, m.reaper)
	var end *process.ExitError
	if errors.As(err, &end) && end.Status.Exited() && end.Status.ExitStatus() < 4 {
		m.console.Log(journal.Warn, journal.InitName, "e2fsck repaired the data disk", "device", device)
		return nil
	}
	if err != nil {
		return fmt.Errorf("check the data disk %s: %w: it needs e2fsck by hand, from a copy", device, err)
	}
	return nil
}

// releaseData writes everything out and unmounts the data disk, or makes it read-only when a
// process that cannot be killed still holds it.
func (m *machine) releaseData() {
	within(process.KillLimit, m.journal.Detach) // a disk that does not answer must not keep it
	unix.Sync()
	m.mu.Lock()
	mounted := m.dataMounted
	m.dataMounted = false
	m.mu.Unlock()
	if !mounted {
		return
	}
	for _, path := range filesystem.MountsBelow(m.spec.Data.Path) {
		if err := unix.Unmount(path, 0); err != nil {
			m.console.Log(journal.Warn, journal.InitName, "cannot unmount", "path", path, "error", err)
		}
	}
	err := unix.Unmount(m.spec.Data.Path, 0)
	if err == nil {
		m.console.Log(journal.Info, journal.InitName, "data disk unmounted")
		return
	}
	m.console.Log(journal.Warn, journal.InitName, "cannot unmount the data disk, making it read-only", "error", err)
	if err := unix.Mount("", m.spec.Data.Path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		m.console.Log(journal.Error, journal.InitName, "cannot make the data disk read-only", "error", err)
	}
	unix.Sync()
}

// dataStatus is the data disk's part of the status.
func (m *machine) dataStatus() guestapi.Data {
	m.mu.Lock()
	data := guestapi.Data{Path: m.spec.Data.Path, Fault: m.dataFault}
	mounted := m.dataMounted
	m.mu.Unlock()
	var s unix.Statfs_t
	if mounted && unix.Statfs(data.Path, &s) == nil {
		data.Size = int64(s.Blocks) * s.Bsize
		data.Free = int64(s.Bavail) * s.Bsize
		data.Warning = spaceWarning(data.Size, data.Free)
	}
	return data
}
