package slots

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/durable"
)

// ErrTrial is wrapped by the error of a change that would remove the fallback of a version on
// trial.
var ErrTrial = errors.New("a new version is being tried")

// Target returns the slot for the next version, which is not the current one. running is the slot
// of the running machine, or empty.
//
// If the current version is new or bad and the other one is good, Target first makes the other one
// current, so that the next version replaces the new or bad one, unless that is on trial right now.
func Target(vm phonepath.VM, running string) (string, error) {
	lock, err := lock(vm)
	if err != nil {
		return "", err
	}
	defer lock.Release()
	slot, err := Current(vm)
	if errors.Is(err, ErrNone) {
		return Names[0], nil
	}
	if err != nil {
		return "", err
	}
	current, other := Look(vm, slot), Look(vm, Other(slot))
	if current.State == runnerapi.SlotGood || other.State != runnerapi.SlotGood {
		return other.Slot, nil
	}
	if running == slot {
		return "", fmt.Errorf("%w: version %s in slot %s, and it can roll back to version %s in slot %s: wait until it is ready, or roll back",
			ErrTrial, current.Version, slot, other.Version, other.Slot)
	}
	return slot, point(vm, other.Slot)
}

// Commit makes the folder vm.Incoming, whose files are verified and synced, the slot target, and
// makes that current.
func Commit(vm phonepath.VM, target string) error {
	lock, err := lock(vm)
	if err != nil {
		return err
	}
	defer lock.Release()
	if current, err := Current(vm); err == nil && current == target {
		return fmt.Errorf("install into slot %s of %s: it has become the current one meanwhile", target, vm.Name)
	}
	if err := os.Remove(filepath.Join(vm.Incoming(), markFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := durable.SyncDir(vm.Incoming()); err != nil {
		return err
	}
	// From now on the replaced folder is not used any more. The next version removes its remains.
	old := filepath.Join(vm.Slots(), ".old")
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if err := os.Rename(vm.Slot(target), old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := durable.Rename(vm.Incoming(), vm.Slot(target)); err != nil { // syncs both renames
		return err
	}
	if err := point(vm, target); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// Drop removes a slot's version to free space. It refuses the current slot.
func Drop(vm phonepath.VM, slot string) error {
	lock, err := lock(vm)
	if err != nil {
		return err
	}
	defer lock.Release()
	if current, err := Current(vm); err == nil && current == slot {
		return fmt.Errorf("remove slot %s of %s: it is the current one", slot, vm.Name)
	}
	return errors.Join(os.RemoveAll(vm.Slot(slot)), os.RemoveAll(filepath.Join(vm.Slots(), ".old")))
}

// RollBack makes the other slot current at the user's request, and returns it.
func RollBack(vm phonepath.VM) (runnerapi.Slot, error) {
	lock, err := lock(vm)
	if err != nil {
		return runnerapi.Slot{}, err
	}
	defer lock.Release()
	slot, err := Current(vm)
	if err != nil {
		return runnerapi.Slot{}, err
	}
	other := Look(vm, Other(slot))
	switch other.State {
	case runnerapi.SlotEmpty:
		return other, fmt.Errorf("%s: there is no other version to roll back to", vm.Name)
	case runnerapi.SlotBad, runnerapi.SlotBroken:
		return other, fmt.Errorf("%s: cannot roll back to slot %s, which is %s: %s", vm.Name, other.Slot, other.State, other.Reason)
	}
	if err := point(vm, other.Slot); err != nil {
		return other, err
	}
	other.Current = true
	return other, nil
}

// A Trial is the start of a version that has not been ready yet. A nil Trial is a version that has;
// its methods do nothing.
type Trial struct {
	vm       phonepath.VM
	slot     string
	fallback string // empty if there is no version to roll back to
	starts   int
}

// Try returns the slot to start, and its trial. If the current version is bad, because a power cut
// interrupted a rollback, Try completes the rollback and returns it.
func Try(vm phonepath.VM) (slot string, t *Trial, back *runnerapi.RollBack, err error) {
	if slot, err = Current(vm); err != nil {
		return "", nil, nil, err
	}
	current, other := Look(vm, slot), Look(vm, Other(slot))
	if current.State == runnerapi.SlotGood {
		return slot, nil, nil, nil
	}
	t = &Trial{vm: vm, slot: slot, starts: current.Starts}
	if other.State == runnerapi.SlotGood || other.State == runnerapi.SlotNew {
		t.fallback = other.Slot
	}
	if current.State != runnerapi.SlotBad || t.fallback == "" {
		return slot, t, nil, nil
	}
	if back, err = t.GiveUp(current.Reason); err != nil {
		return "", nil, nil, err
	}
	slot, t, _, err = Try(vm)
	return slot, t, back, err
}

// CanGiveUp reports whether there is another version to roll back to.
func (t *Trial) CanGiveUp() bool { return t != nil && t.fallback != "" }

// Starts returns how often the version was started.
func (t *Trial) Starts() int {
	if t == nil {
		return 0
	}
	return t.starts
}

// Begin records a start before it happens, so that a version that crashes the phone is also
// counted.
func (t *Trial) Begin() error { return t.count(1) }

// Undo removes the last start from the count, because it ended for another reason.
func (t *Trial) Undo() error { return t.count(-1) }

func (t *Trial) count(n int) error {
	if t == nil {
		return nil
	}
	t.starts = max(t.starts+n, 0)
	return writeMark(t.vm.Slot(t.slot), mark{State: runnerapi.SlotNew, Starts: t.starts})
}

// Passed records that the version has been ready.
func (t *Trial) Passed() error {
	if t == nil {
		return nil
	}
	return writeMark(t.vm.Slot(t.slot), mark{State: runnerapi.SlotGood, Since: time.Now().UTC()})
}

// GiveUp makes the other slot current and stores the reason with the bad version.
func (t *Trial) GiveUp(reason string) (*runnerapi.RollBack, error) {
	if !t.CanGiveUp() {
		return nil, errors.New("there is no version to roll back to")
	}
	return leave(t.vm, t.slot, reason, t.fallback)
}

// Damaged marks the current slot as damaged, whether its version has been ready or not, and makes
// the other slot current if that may work; otherwise it returns nil.
func Damaged(vm phonepath.VM, slot, reason string) (*runnerapi.RollBack, error) {
	to := ""
	if other := Look(vm, Other(slot)); other.State == runnerapi.SlotGood || other.State == runnerapi.SlotNew {
		to = other.Slot
	}
	return leave(vm, slot, reason, to)
}

// leave marks the current slot as bad and makes the slot to current, unless that is "".
func leave(vm phonepath.VM, slot, reason, to string) (*runnerapi.RollBack, error) {
	lock, err := lock(vm)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if current, err := Current(vm); err != nil || current != slot {
		return nil, errors.Join(err, fmt.Errorf("slot %s is not current any more", slot))
	}
	now := time.Now().UTC()
	back := &runnerapi.RollBack{From: slot, Version: Look(vm, slot).Version, To: to, Reason: reason, At: now}
	// The mark comes first: after an interruption, Try completes the switch.
	err = durable.MkdirAll(vm.Slot(slot), 0o755) // the slot may have been removed
	if err == nil {
		err = writeMark(vm.Slot(slot), mark{State: runnerapi.SlotBad, Reason: reason, Since: now})
	}
	if err != nil || to == "" {
		return nil, err
	}
	return back, point(vm, to)
}
