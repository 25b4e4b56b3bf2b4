package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/phone/crosvm"
)

// A configPlace is where the config disks of a machine are: in memory or, on a phone that refuses
// that, in a file. A crosvm that may not use a disk in memory says that like any other fault of a
// disk: the other way is tried at the next start.
type configPlace struct {
	refused string // why it is a file; empty: it is in memory
}

// A configDisk is the config disk of one start.
type configDisk struct {
	memory *configdisk.Memory // nil: it is a file
	file   string
}

// write makes the disk, in file where it cannot be in memory.
func (p *configPlace) write(file string, content []byte) (*configDisk, error) {
	if p.refused == "" {
		memory, err := configdisk.InMemory(content)
		if err == nil {
			return &configDisk{memory: memory}, nil
		}
		p.refused = err.Error()
	}
	if err := durable.WriteFile(file, content, 0o600); err != nil {
		return nil, fmt.Errorf("config disk: %w", err)
	}
	return &configDisk{file: file}, nil
}

// aboutDisk matches what crosvm says of a disk that it could not open, lock or measure.
var (
	aboutDisk = regexp.MustCompile(`(?i)\bdisk\b`)
	inherited = regexp.MustCompile(`/proc/self/fd/\d+`)
)

// learn takes notice of a crosvm that ended before its guest said anything, and reports whether
// that may have been for the place of the disk, which crosvm knows by a path.
func (p *configPlace) learn(exit crosvm.Exit, path string) bool {
	said := exit.String()
	if exit.Kind != crosvm.Failed || !aboutDisk.MatchString(said) {
		return false
	}
	if named := inherited.FindString(said); named != "" && named != path { // Android 13 and 14 name none when a lock fails
		return false
	}
	if p.refused != "" {
		p.refused = ""
	} else {
		p.refused = said
	}
	return true
}

// path is by which the daemon can open the disk.
func (c *configDisk) path() string {
	if c.memory != nil {
		return c.memory.Path()
	}
	return c.file
}

// forget removes what is secret, also for a crosvm that has the disk open. A second call does
// nothing.
func (c *configDisk) forget() error {
	if c.memory != nil {
		return c.memory.Forget()
	}
	return wipe(c.file)
}

// wipe overwrites a file with zeros and removes it. Flash memory may keep what was there in blocks
// that it has not erased yet; nothing that is opened on the phone shows it.
func wipe(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil { // it is not a file
		return os.Remove(path)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		_, err = io.CopyN(f, zeros{}, info.Size())
	}
	return errors.Join(err, f.Sync(), os.Remove(path))
}

// zeros is a reader without an end.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
