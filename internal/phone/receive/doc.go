// Package receive is the phone's part of installing a version of a machine: from a computer that
// sends what is missing, see package pushapi, or from a folder or an archive that holds all of it.
// Either way the files are put together in a folder beside the slots, synced, read back and
// compared with manifest.json, and take a slot's name after that; package slots says how. Package
// trust decides whether the phone takes a version, before any of it is written.
//
// What was written when a transfer was cut off stays, and the next one goes on from there.
package receive

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
	"github.com/sovereign-sql/sov/internal/durable"
)

// A Receiver installs versions of one machine.
type Receiver struct {
	VM      phonepath.VM
	Arch    string        // of machines that this phone runs
	Version string        // of this program
	Running func() string // the slot of the machine that runs, or ""

	AllowDowngrade bool // Install takes a signed version whose serial is lower than one before
}

// lockPatience is how long a push waits for another to end: that of a cable that was pulled ends
// when adb has noticed.
const lockPatience = 10 * time.Second

// lock keeps every other transfer of the machine away. It makes the machine's folders.
func (r *Receiver) lock(ctx context.Context) (*durable.Lock, error) {
	if err := durable.MkdirAll(r.VM.Slots(), 0o755); err != nil {
		return nil, err
	}
	patient, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	l, err := durable.WaitLock(patient, filepath.Join(r.VM.Slots(), ".receive.lock"), durable.Exclusive, durable.LockOptions{})
	if errors.Is(err, durable.ErrBusy) && ctx.Err() == nil {
		return nil, &pushapi.Refusal{Code: pushapi.CodeBusy, Text: "another version of " + r.VM.Name + " is being installed: try again when that has ended"}
	}
	if err != nil {
		return nil, fmt.Errorf("lock the slots: %w", err)
	}
	return l, nil
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
