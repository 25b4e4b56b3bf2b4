package localvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/durable"
)

// A Running is a machine that runs on this computer, in this process or another. It is a file of
// the state folder, readable only by its owner, while the machine runs. Its token is invalid after
// that.
type Running struct {
	Name     string         `json:"name"`
	Arch     string         `json:"arch"`
	PID      int            `json:"pid"` // of the sov that runs it
	QEMU     int            `json:"qemu"`
	URL      string         `json:"url,omitempty"` // empty: it publishes no database
	Started  time.Time      `json:"started"`
	Endpoint netip.AddrPort `json:"endpoint"`
	Token    string         `json:"token"`
	Network  NetworkMode    `json:"network"`
	// Published are the guest's ports that are reachable on this computer.
	Published []Published `json:"published,omitempty"`

	State string `json:"-"` // its state folder
}

// Files of a state folder.
const (
	// ConsoleName is the log of the guest's console, LogName that of `sov run --detach`.
	ConsoleName, LogName = "console.log", "run.log"
	// AuthorityName is the certificate by which clients verify the database, in PEM.
	AuthorityName = "authority.crt"

	lockName    = "lock"
	runningName = "running.json"
)

// At returns the machine that uses a state folder; nil if none does.
func At(state string) (*Running, error) {
	holder, err := durable.TryLock(filepath.Join(state, lockName), durable.Shared, durable.LockOptions{Existing: true})
	if err == nil {
		holder.Release()
		return nil, nil // left by a run that was killed
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if !errors.Is(err, durable.ErrBusy) {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(state, runningName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it is still starting
	}
	r := &Running{State: state}
	if err == nil {
		err = json.Unmarshal(text, r)
	}
	if err != nil {
		return nil, fmt.Errorf("the machine that runs on %s: %w", state, err)
	}
	return r, nil
}

// List returns the machines that use state folders below base (StateFolder).
func List(base string) ([]*Running, error) {
	folders, err := os.ReadDir(filepath.Join(base, runFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []*Running
	for _, folder := range folders {
		r, err := At(filepath.Join(base, runFolder, folder.Name()))
		if err != nil {
			return list, err
		}
		if r != nil {
			list = append(list, r)
		}
	}
	return list, nil
}

// Find returns the running machine with a name whose state folder is below base; nil if there is
// none.
func Find(base, name string) (*Running, error) {
	list, err := List(base)
	if err != nil {
		return nil, err
	}
	var found []*Running
	var folders []string
	for _, r := range list {
		if r.Name == name {
			found, folders = append(found, r), append(folders, r.State)
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%s runs here more than once: name one with --state: %s", name, strings.Join(folders, ", "))
}

// Guest returns a client of its guest.
func (r *Running) Guest() *guestapi.Client { return guestapi.NewClient(r.Endpoint, r.Token) }

// Console returns the path of its console's log.
func (r *Running) Console() string { return filepath.Join(r.State, ConsoleName) }

// DataSize returns the bytes that its disks occupy on this computer. The files are sparse: that is
// less than the disks' sizes.
func (r *Running) DataSize() (n int64) {
	for _, path := range dataFiles(r.State) {
		var s unix.Stat_t
		if unix.Stat(path, &s) == nil {
			n += s.Blocks * 512 // stat(2): units of 512 bytes on every file system
		}
	}
	return n
}

// Stop sends SIGTERM to the process that runs it, which shuts it down cleanly, and waits until that
// process has ended.
func (r *Running) Stop(ctx context.Context, bound time.Duration) error {
	lock := filepath.Join(r.State, lockName)
	if durable.Holder(lock) != r.PID {
		return nil // it has ended since
	}
	if err := syscall.Kill(r.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop %s: process %d: %w", r.Name, r.PID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	held, err := durable.WaitLock(ctx, lock, durable.Shared, durable.LockOptions{Existing: true})
	if err != nil {
		return fmt.Errorf("stop %s: process %d does not end: %w: its log is %s", r.Name, r.PID, err, filepath.Join(r.State, LogName))
	}
	held.Release()
	return nil
}

// note writes the file that describes the running machine.
func (s *state) note(r *Running) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(s.path(runningName), append(text, '\n'), 0o600)
}
