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

// ErrTrial is wrapped by the error of a change that would take from a version on trial what it
// falls back to.
var ErrTrial = errors.New("a new version is being tried")

// Target returns the slot that the next version goes into, which is not the current one. running is
// the slot of the machine that runs, or empty.
//
// Where the current version is new or bad and the other one is good, it is the new one that gives
// way, unless it is being tried right now: the other one is made current first.
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

// Commit makes the folder vm.Incoming, whose files were verified and are synced, the slot target,
// and makes that current.
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
	// The folder that gives way has no owner from here on; what is left of it goes with the next
	// version.
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

// Drop removes what a slot holds, to make room. The current one is refused.
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

// RollBack makes the other slot current because the user wants it, and returns it.
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

// A Trial is the start of a version that has not been ready yet. Its methods do nothing on nil,
// which is a version that has.
type Trial struct {
	vm       phonepath.VM
	slot     string
	fallback string // empty: there is nothing to go back to
	starts   int
}

// Try returns the slot that is to be started, and its trial. A version that was found bad and is
// still current, since the phone lost power amid going back, is gone back from now; the result says
// so.
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

// CanGiveUp tells whether there is another version to go back to.
func (t *Trial) CanGiveUp() bool { return t != nil && t.fallback != "" }

// Starts is how often the version was started.
func (t *Trial) Starts() int {
	if t == nil {
		return 0
	}
	return t.starts
}

// Begin notes that it is started, before it is: a version that takes the phone down with it is to
// be known as well.
func (t *Trial) Begin() error { return t.count(1) }

// Undo forgets the last start, which was ended for another reason.
func (t *Trial) Undo() error { return t.count(-1) }

func (t *Trial) count(n int) error {
	if t == nil {
		return nil
	}
	t.starts = max(t.starts+n, 0)
	return writeMark(t.vm.Slot(t.slot), mark{State: runnerapi.SlotNew, Starts: t.starts})
}

// Passed notes that the version has been ready.
func (t *Trial) Passed() error {
	if t == nil {
		return nil
	}
	return writeMark(t.vm.Slot(t.slot), mark{State: runnerapi.SlotGood, Since: time.Now().UTC()})
}

// GiveUp makes the other slot current, for a reason that is kept with the version that did not
// work.
func (t *Trial) GiveUp(reason string) (*runnerapi.RollBack, error) {
	if !t.CanGiveUp() {
		return nil, errors.New("there is no version to roll back to")
	}
	return leave(t.vm, t.slot, reason, t.fallback)
}

// Damaged notes that the current slot does not hold any more what was installed in it, whether that
// has been ready or not, and makes the other slot current if that may work. Without such a slot, it
// returns nil.
func Damaged(vm phonepath.VM, slot, reason string) (*runnerapi.RollBack, error) {
	to := ""
	if other := Look(vm, Other(slot)); other.State == runnerapi.SlotGood || other.State == runnerapi.SlotNew {
		to = other.Slot
	}
	return leave(vm, slot, reason, to)
}

// leave marks the current slot as bad and makes another one current; "": none.
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
	// The note first: between the two, a reader goes on with the second.
	err = durable.MkdirAll(vm.Slot(slot), 0o755) // of a slot that was removed
	if err == nil {
		err = writeMark(vm.Slot(slot), mark{State: runnerapi.SlotBad, Reason: reason, Since: now})
	}
	if err != nil || to == "" {
		return nil, err
	}
	return back, point(vm, to)
}
