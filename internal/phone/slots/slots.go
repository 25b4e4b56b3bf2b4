// Package slots keeps two versions of a machine on a phone, so that a new one can be tried and the
// old one still be there.
//
// A slot, a or b, is a folder with an artifact's files: manifest.json, and of what that lists those
// that a machine is started from. A new version is put together and verified in a folder beside
// them, takes a slot's name in one step, and is what starts from the moment the link `current`
// points to it. The slot that `current` points to is never written to. So whatever is cut off at
// whatever point, `current` points to a whole version.
//
// What is known of a version lies in its slot, in a file that goes away with it: a version is new
// until it has been ready once, and good from then on; one that was given up is bad, with the
// reason. While a new version is tried, the other slot is what is gone back to.
package slots

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/durable"
)

// Names are the slots'.
var Names = []string{"a", "b"}

// Other returns the slot that s is not.
func Other(s string) string {
	if s == Names[0] {
		return Names[1]
	}
	return Names[0]
}

// markFile is what is known of a slot's version.
const markFile = ".mark.json"

// ErrNone is wrapped by the error of a machine of which no version is installed.
var ErrNone = errors.New("no version of it is installed")

// Current returns the slot that is started. The error wraps ErrNone where there is none.
func Current(vm phonepath.VM) (string, error) {
	target, err := os.Readlink(vm.Current())
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: %w: install one with `sov push %[1]s`", vm.Name, ErrNone)
	}
	if err != nil {
		return "", err
	}
	for _, slot := range Names {
		if target == phonepath.SlotLink(slot) {
			return slot, nil
		}
	}
	return "", fmt.Errorf("%s: %s points to %s, which is not a slot", vm.Name, vm.Current(), target)
}

// A mark is what is known of the version in a slot.
type mark struct {
	State  runnerapi.SlotState `json:"state"`
	Reason string              `json:"reason,omitempty"`
	Starts int                 `json:"starts,omitempty"`
	Since  time.Time           `json:"since,omitzero"`
}

// readMark returns what was noted of a slot: nothing makes it new, and so does what cannot be read,
// since then it is tried again.
func readMark(dir string) mark {
	m := mark{State: runnerapi.SlotNew}
	text, err := installed.ReadFile(filepath.Join(dir, markFile))
	if err != nil || json.Unmarshal(text, &m) != nil || !slices.Contains([]runnerapi.SlotState{runnerapi.SlotGood, runnerapi.SlotBad}, m.State) {
		m.State = runnerapi.SlotNew
	}
	return m
}

func writeMark(dir string, m mark) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, markFile), append(text, '\n'), 0o600)
}

// Look returns what a slot holds; the error of what is not whole is in it.
func Look(vm phonepath.VM, slot string) runnerapi.Slot {
	s := runnerapi.Slot{Slot: slot, State: runnerapi.SlotEmpty}
	if current, err := Current(vm); err == nil {
		s.Current = current == slot
	}
	dir := vm.Slot(slot)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return s
	}
	a, err := installed.Load(dir)
	if err != nil {
		s.State, s.Reason = runnerapi.SlotBroken, err.Error()
		return s
	}
	if text, err := installed.ReadFile(vm.Signed(slot)); err == nil {
		if signed, err := provenance.OpenSigned(text); err == nil && signed.IsOf(a.Manifest.Name, a.Digest) {
			s.SignedBy, s.Serial = signed.By.ID(), signed.Serial
		}
	}
	m := readMark(dir)
	s.Version, s.Digest, s.State, s.Since = a.Manifest.Version, a.Digest, m.State, m.Since
	if m.State == runnerapi.SlotBad {
		s.Reason = m.Reason
	}
	if m.State == runnerapi.SlotNew {
		s.Starts = m.Starts
	}
	return s
}

// List returns what both slots hold.
func List(vm phonepath.VM) []runnerapi.Slot {
	var out []runnerapi.Slot
	for _, slot := range Names {
		out = append(out, Look(vm, slot))
	}
	return out
}

// lock makes the caller the only one who changes slots, until it is released.
func lock(vm phonepath.VM) (*durable.Lock, error) {
	if err := durable.MkdirAll(vm.Slots(), 0o755); err != nil {
		return nil, err
	}
	// Held for as long as a few renames take: there is nothing to cancel.
	return durable.WaitLock(context.Background(), vm.Slots(), durable.Exclusive, durable.LockOptions{Existing: true})
}

// point makes a slot the current one, durably.
func point(vm phonepath.VM, slot string) error {
	next := filepath.Join(vm.Dir(), ".current.new")
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(phonepath.SlotLink(slot), next); err != nil {
		return err
	}
	return durable.Rename(next, vm.Current())
}
