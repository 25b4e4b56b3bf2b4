//go:build linux

package guest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
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
	err = mountOnce(device, m.spec.Data.Path, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, "errors=remount-ro")
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.dataMounted = true
	m.mu.Unlock()
	m.console.log(info, initName, "data disk mounted", "device", device, "path", m.spec.Data.Path)
	if err := m.journal.attach(m.spec.Data.Path); err != nil {
		m.problem("logs are not kept", err)
	}
	m.spawn("data disk's space", func() { m.watchSpace(ctx, device) })
	return nil
}

// checkData replays the journal and repairs what can be repaired without a decision. The exit
// status of e2fsck(8) is a sum: 1 and 2 are faults that it corrected (2: a mounted root must be
// rebooted, which this is not), from 4 on there is something left.
func (m *machine) checkData(ctx context.Context, device string) error {
	if _, err := os.Stat(e2fsckPath); errors.Is(err, fs.ErrNotExist) {
		m.console.log(warn, initName, "the image has no "+e2fsckPath+": the data disk is mounted unchecked")
		return nil
	}
	check := command{
		argv: []string{e2fsckPath, "-p", device}, user: "root", path: m.spec.Path, dir: "/", name: "e2fsck",
		line: func(line string) { m.console.output("e2fsck", line) },
	}
	err := check.run(ctx, m.reaper)
	var end *exitError
	if errors.As(err, &end) && end.status.Exited() && end.status.ExitStatus() < 4 {
		m.console.log(warn, initName, "e2fsck repaired the data disk", "device", device)
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
	within(killLimit, m.journal.detach) // a disk that does not answer must not keep it
	unix.Sync()
	m.mu.Lock()
	mounted := m.dataMounted
	m.dataMounted = false
	m.mu.Unlock()
	if !mounted {
		return
	}
	for _, path := range mountsBelow(m.spec.Data.Path) {
		if err := unix.Unmount(path, 0); err != nil {
			m.console.log(warn, initName, "cannot unmount", "path", path, "error", err)
		}
	}
	err := unix.Unmount(m.spec.Data.Path, 0)
	if err == nil {
		m.console.log(info, initName, "data disk unmounted")
		return
	}
	m.console.log(warn, initName, "cannot unmount the data disk, making it read-only", "error", err)
	if err := unix.Mount("", m.spec.Data.Path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		m.console.log(bad, initName, "cannot make the data disk read-only", "error", err)
	}
	unix.Sync()
}

// mountsBelow lists the mount points below path, the last mounted first.
func mountsBelow(path string) []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var list []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // proc(5): the fifth is the mount point
		if len(fields) < 5 {
			continue
		}
		if at := unescapeMount(fields[4]); strings.HasPrefix(at, path+"/") {
			list = append(list, at)
		}
	}
	slices.Reverse(list)
	return list
}

// unescapeMount undoes the kernel's writing of spaces and the like as \040.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
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
