// Package receive is the phone's part of installing a version of a machine: from a computer that sends what is missing, see
// package pushapi, or from a folder or an archive that holds all of it. Either way the files are put together in a folder
// beside the slots, synced, read back and compared with manifest.json, and take a slot's name after that; package slots
// says how.
//
// What was written when a transfer was cut off stays, and the next one goes on from there.
package receive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
)

// A Receiver installs versions of one machine.
type Receiver struct {
	VM      phonepath.VM
	Arch    string        // of machines that this phone runs
	Version string        // of this program
	Running func() string // the slot of the machine that runs, or ""
}

// lockPatience is how long a push waits for another to end: that of a cable that was pulled ends when adb has noticed.
const lockPatience = 10 * time.Second

// lock keeps every other transfer of the machine away. It makes the machine's folders.
func (r *Receiver) lock() (unlock func(), err error) {
	if err := os.MkdirAll(r.VM.Slots(), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(r.VM.Slots(), ".receive.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(50 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, &pushapi.Refusal{Code: pushapi.CodeBusy, Text: "another version of " + r.VM.Name + " is being installed: try again when that has ended"}
			}
			return nil, fmt.Errorf("lock the slots: %w", err)
		}
	}
}

// parse checks what an offer or a folder says of itself against this phone.
func (r *Receiver) parse(manifestText, specText []byte) (*installed.Artifact, error) {
	a, err := installed.Parse(manifestText, specText)
	if err != nil {
		return nil, &pushapi.Refusal{Code: pushapi.CodeVersion, Text: fmt.Sprintf("this phone's sov-runner cannot install it: %v: build and push with one version of sov", err)}
	}
	if a.Manifest.Name != r.VM.Name {
		return nil, fmt.Errorf("it is the machine %s, not %s", a.Manifest.Name, r.VM.Name)
	}
	if a.Manifest.Arch != r.Arch {
		return nil, fmt.Errorf("it is for %s, this phone runs %s: build it with --arch %s", a.Manifest.Arch, r.Arch, r.Arch)
	}
	return a, nil
}

// running is the slot of the machine that runs, or "".
func (r *Receiver) running() string {
	if r.Running == nil {
		return ""
	}
	return r.Running()
}
