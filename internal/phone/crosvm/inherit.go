package crosvm

import (
	"fmt"
	"os"

	"github.com/sovereign-sql/sov/internal/phone/tuntap"
)

// firstInherited is the first descriptor that crosvm inherits after the standard ones and that of
// the launcher.
const firstInherited = 4

// An inheritance is the list of files that crosvm inherits.
type inheritance struct {
	files         []*os.File
	tap, requests int // descriptors in crosvm's process; 0: none
}

// add adds a file and returns its descriptor in crosvm's process.
func (i *inheritance) add(f *os.File) int {
	i.files = append(i.files, f)
	return firstInherited + len(i.files) - 1
}

// DiskPath returns crosvm's path of the disk with an index in Machine.Disks. The kernel precedes
// the disks.
func DiskPath(place int) string { return fdPath(firstInherited + 1 + place) }

func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

func (i *inheritance) path(name string, flags int) (string, error) {
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return "", err
	}
	return fdPath(i.add(f)), nil
}

// open opens the files of a machine, and returns the machine with crosvm's paths.
func (i *inheritance) open(m Machine, user *User) (Machine, error) {
	inside := m
	var err error
	if inside.Kernel, err = i.path(m.Kernel, os.O_RDONLY); err != nil {
		return m, fmt.Errorf("kernel: %w", err)
	}
	inside.Disks = nil
	for _, d := range m.Disks {
		flags := os.O_RDWR
		if d.ReadOnly {
			flags = os.O_RDONLY
		}
		path, err := i.path(d.Path, flags)
		if err != nil {
			return m, fmt.Errorf("disk: %w", err)
		}
		inside.Disks = append(inside.Disks, Disk{Path: path, ReadOnly: d.ReadOnly})
	}
	for _, log := range []struct {
		from string
		to   *string
	}{{m.Console, &inside.Console}, {m.Early, &inside.Early}} {
		if log.from == "" {
			continue
		}
		if *log.to, err = i.path(log.from, os.O_WRONLY|os.O_APPEND|os.O_CREATE); err != nil {
			return m, fmt.Errorf("console: %w", err)
		}
	}
	if m.Requests != "" {
		f, err := makeRequests(m.Requests)
		if err != nil {
			return m, err
		}
		i.requests = i.add(f)
		inside.Requests = fdPath(i.requests)
	}
	if m.TAP != "" {
		f, err := tuntap.Open(m.TAP)
		if err != nil {
			return m, fmt.Errorf("TAP interface %s: %w", m.TAP, err)
		}
		i.tap = i.add(f)
	}
	if user != nil {
		inside.Socket = Inside(m.Socket)
	}
	return inside, nil
}

func (i *inheritance) close() {
	for _, f := range i.files {
		f.Close()
	}
}
