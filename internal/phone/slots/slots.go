// Package slots stores two versions of a machine on a phone, so that the old one stays available
// while a new one is tried.
//
// A slot, a or b, is a folder with an artifact's files: manifest.json, and the listed files that a
// start needs. A new version is assembled and verified in another folder, renamed to a slot in one
// step, and started from the moment when the link `current` points to it. The slot that `current`
// points to is never written. So after any interruption `current` points to an intact version.
//
// The state of a version is in a file in its slot: a version is new until it has been ready once,
// and then good; a version that was given up is bad, with the reason. While a new version is on
// trial, the other slot is its fallback.
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

// Names are the names of the slots.
var Names = []string{"a", "b"}

// Other returns the other slot than s.
func Other(s string) string {
	if s == Names[0] {
		return Names[1]
	}
	return Names[0]
}

// markFile is the file with the state of a slot's version.
const markFile = ".mark.json"

// ErrNone is wrapped by the error for a machine without an installed version.
var ErrNone = errors.New("no version of it is installed")

// Current returns the current slot. The error wraps ErrNone if there is none.
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

// A mark is the state of the version in a slot.
type mark struct {
	State  runnerapi.SlotState `json:"state"`
	Reason string              `json:"reason,omitempty"`
	Starts int                 `json:"starts,omitempty"`
	Since  time.Time           `json:"since,omitzero"`
}

// readMark returns the mark of a slot. A slot without a mark, or with an unreadable one, is new, so
// that it is tried again.
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

// Look returns the state of a slot, with the error if its version is not intact.
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

// List returns the state of both slots.
func List(vm phonepath.VM) []runnerapi.Slot {
	var out []runnerapi.Slot
	for _, slot := range Names {
		out = append(out, Look(vm, slot))
	}
	return out
}

// lock locks the slots against other changes.
func lock(vm phonepath.VM) (*durable.Lock, error) {
	if err := durable.MkdirAll(vm.Slots(), 0o755); err != nil {
		return nil, err
	}
	// The lock is held only for a few renames, so waiting needs no cancellation.
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
