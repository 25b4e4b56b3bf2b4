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

// A Running is a machine that runs on this computer, in this process or another. It is kept in the
// state folder, readable for its owner only, for as long as the machine runs: its token is worth
// nothing after that.
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
	// Published are the ports that are reachable on this computer.
	Published []Published `json:"published,omitempty"`

	State string `json:"-"` // its state folder
}

// Files of a state folder.
const (
	// ConsoleName is the guest's console, LogName what `sov run --detach` says in background.
	ConsoleName, LogName = "console.log", "run.log"
	// AuthorityName is the certificate by which clients verify the database, in PEM.
	AuthorityName = "authority.crt"

	lockName    = "lock"
	runningName = "running.json"
)

// At returns the machine that runs on a state folder; nil where none does.
func At(state string) (*Running, error) {
	holder, err := durable.TryLock(filepath.Join(state, lockName), durable.Shared, durable.LockOptions{Existing: true})
	if err == nil {
		holder.Release()
		return nil, nil // what a run that was killed left is of no account
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if !errors.Is(err, durable.ErrBusy) {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(state, runningName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it has not come that far
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

// List returns the machines that run on state folders below base (StateFolder).
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

// Find returns the machine of a name that runs on a state folder below base; nil where none does.
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

// DataSize returns how many bytes its disks take of this computer's, which is less than the disks'
// sizes.
func (r *Running) DataSize() (n int64) {
	for _, path := range dataFiles(r.State) {
		var s unix.Stat_t
		if unix.Stat(path, &s) == nil {
			n += s.Blocks * 512 // stat(2): whatever the file system's blocks are
		}
	}
	return n
}

// Stop has the process that runs it shut it down in order, as Ctrl-C does, and waits until it is
// gone.
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

// note records that the machine runs.
func (s *state) note(r *Running) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(s.path(runningName), append(text, '\n'), 0o600)
}
