package crosvmcli

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Record describes a crosvm process at its start.
type Record struct {
	PID, ProcessGroup int
	UID, GID          int
	Groups            []int
	Args              []string
	Cmdline           string // the kernel's
	Capabilities      string // effective, as in /proc/self/status
	Bounding          string // the bounding set of capabilities
	NoNewPrivs        bool
	MemoryLock        uint64   // RLIMIT_MEMLOCK, in bytes
	Dev               []string // paths of all files in /dev, relative to it
	Files             []string // targets of its descriptors, except the standard ones
	Blocking          []string // those of Files without O_NONBLOCK
}

// recordFile is the file for records on a simulated phone.
const recordFile = "/calls/crosvm"

// NewRecord returns a record of this process.
func NewRecord(cmdline string) Record {
	r := Record{PID: os.Getpid(), ProcessGroup: unix.Getpgrp(), UID: os.Geteuid(), GID: os.Getegid(), Args: os.Args, Cmdline: cmdline}
	r.Groups, _ = os.Getgroups()
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch name {
		case "CapEff":
			r.Capabilities = value
		case "CapBnd":
			r.Bounding = value
		case "NoNewPrivs":
			r.NoNewPrivs = value == "1"
		}
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil {
		r.MemoryLock = limit.Cur
	}
	filepath.WalkDir("/dev", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			r.Dev = append(r.Dev, strings.TrimPrefix(path, "/dev/"))
		}
		return nil
	})
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if n, _ := strconv.Atoi(fd.Name()); err == nil && n > 2 && !strings.HasPrefix(target, "/proc/") && !strings.HasPrefix(target, "anon_inode:") && target != recordFile {
			r.Files = append(r.Files, target)
			if flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFL, 0); err == nil && flags&unix.O_NONBLOCK == 0 {
				r.Blocking = append(r.Blocking, target)
			}
		}
	}
	slices.Sort(r.Files)
	return r
}

// Encode returns the record as a line of JSON.
func (r Record) Encode() []byte {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return text
}
