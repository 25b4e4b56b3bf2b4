// Package receive is the phone's part of installing a version of a machine, from a computer that
// sends the missing parts (see package pushapi), or from a complete folder or archive. It assembles
// the files in a folder beside the slots, syncs them, reads them back, compares them with
// manifest.json, and then makes the folder a slot (see package slots). Before anything is written,
// package trust decides whether the phone accepts the version.
//
// After an interruption the written data stays, and the next transfer continues from there.
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
	Running func() string // returns the slot of the running machine, or ""

	AllowDowngrade bool // Install accepts a signed version with a lower serial than a previous one
}

// lockPatience is how long a push waits for the end of another: after an unplugged cable, that ends
// when adb notices.
const lockPatience = 10 * time.Second

// lock locks the machine against other transfers. It creates the machine's folders.
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

// parse validates the description of a version and checks it against this phone.
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

// running returns the slot of the running machine, or "".
func (r *Receiver) running() string {
	if r.Running == nil {
		return ""
	}
	return r.Running()
}
