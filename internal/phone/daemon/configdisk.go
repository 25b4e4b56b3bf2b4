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

// A configPlace is the location of a machine's config disks: memory or, on a phone that refuses
// that, a file. A crosvm that is not allowed to use a disk in memory reports it like any other
// error of a disk, so after such an error the next start uses the other location.
type configPlace struct {
	refused string // why it is a file; empty if it is in memory
}

// A configDisk is the config disk of one start.
type configDisk struct {
	memory *configdisk.Memory // nil if it is a file
	file   string
}

// write creates the disk, in file if it cannot be in memory.
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

// aboutDisk matches crosvm's errors about a disk that it could not open, lock or measure.
var (
	aboutDisk = regexp.MustCompile(`(?i)\bdisk\b`)
	inherited = regexp.MustCompile(`/proc/self/fd/\d+`)
)

// learn handles a crosvm that ended before its guest printed anything. It reports whether the
// location of the disk, with crosvm's path, may be the reason.
func (p *configPlace) learn(exit crosvm.Exit, path string) bool {
	said := exit.String()
	if exit.Kind != crosvm.Failed || !aboutDisk.MatchString(said) {
		return false
	}
	if named := inherited.FindString(said); named != "" && named != path { // Android 13 and 14 do not name the disk if a lock fails
		return false
	}
	if p.refused != "" {
		p.refused = ""
	} else {
		p.refused = said
	}
	return true
}

// path returns the daemon's path of the disk.
func (c *configDisk) path() string {
	if c.memory != nil {
		return c.memory.Path()
	}
	return c.file
}

// forget removes the secrets, also for a crosvm that has the disk open. A second call does nothing.
func (c *configDisk) forget() error {
	if c.memory != nil {
		return c.memory.Forget()
	}
	return wipe(c.file)
}

// wipe overwrites a file with zeros and removes it. Flash memory may keep the old content in blocks
// that are not erased yet, but programs on the phone cannot read those.
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

// zeros is an endless reader of zeros.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
