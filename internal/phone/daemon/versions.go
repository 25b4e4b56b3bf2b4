package daemon

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/phone/receive"
	"github.com/sovereign-sql/sov/internal/phone/slots"
)

// newReceiver returns what installs versions of a machine. The folder that holds everything may be
// new.
func newReceiver(root phonepath.Root, name, version string) (*receive.Receiver, error) {
	vm, err := root.VM(name)
	if err != nil {
		return nil, err
	}
	settings, err := loadSettings(root)
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(vm.Dir(), 0o755); err != nil {
		return nil, err
	}
	if err := checkTrusted(string(root), vm.Dir()); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(root.Trust()); err == nil {
		if err := checkTrusted(string(root), root.Trust()); err != nil {
			return nil, err
		}
	}
	return &receive.Receiver{VM: vm, Arch: settings.arch(), Version: version, Running: func() string { return runningSlot(vm) }}, nil
}

// runningSlot is the slot of the machine that runs, or is being started, or "".
func runningSlot(vm phonepath.VM) string {
	state, err := readState(vm)
	if err != nil {
		return ""
	}
	holder, err := lockHolder(vm)
	if err != nil || holder == 0 || holder != state.Daemon || rests(state.Phase) {
		return ""
	}
	return state.Slot
}

// Receive installs a version that `sov push` sends, see package pushapi. A refusal has been sent
// when it is returned.
func Receive(ctx context.Context, root phonepath.Root, name, version string, in io.Reader, out io.Writer) error {
	r, err := newReceiver(root, name, version)
	if err != nil {
		c := pushapi.NewConn(in, out)
		return errors.Join(err, c.Open(), c.Send(pushapi.KindRefusal, &pushapi.Refusal{Code: pushapi.CodeFailed, Text: err.Error()}))
	}
	return r.Serve(ctx, in, out)
}

// archiveFolder is where an archive holds an artifact, see package module.
const archiveFolder = "artifact"

// Install installs the version that a folder on the phone holds, or the folder "artifact" in a zip
// archive. allowDowngrade takes a signed version that is older than one before.
func Install(ctx context.Context, root phonepath.Root, name, version, from string, allowDowngrade bool) (*pushapi.Done, error) {
	r, err := newReceiver(root, name, version)
	if err != nil {
		return nil, err
	}
	r.AllowDowngrade = allowDowngrade
	info, err := os.Stat(from)
	if err != nil {
		return nil, fmt.Errorf("install %s: %w", name, err)
	}
	source := os.DirFS(from)
	if !info.IsDir() {
		archive, err := zip.OpenReader(from)
		if err != nil {
			return nil, fmt.Errorf("install %s from %s: %w", name, from, err)
		}
		defer archive.Close()
		if source, err = fs.Sub(archive, archiveFolder); err != nil {
			return nil, err
		}
	}
	return r.Install(ctx, source, nil)
}

// Slots tells what both slots of a machine hold.
func Slots(root phonepath.Root, name string) ([]runnerapi.Slot, error) {
	vm, err := lookUp(root, name)
	if err != nil {
		return nil, err
	}
	return slots.List(vm), nil
}

// RollBack makes the other version of a machine what is started next, and tells whether a machine
// runs that has to be restarted for it.
func RollBack(ctx context.Context, root phonepath.Root, name string) (slot runnerapi.Slot, running bool, err error) {
	vm, err := lookUp(root, name)
	if err != nil {
		return slot, false, err
	}
	if err := checkDatabases(ctx, root, vm); err != nil {
		return slot, false, fmt.Errorf("roll back: %w", err)
	}
	if slot, err = slots.RollBack(vm); err != nil {
		return slot, false, fmt.Errorf("roll back: %w", err)
	}
	return slot, runningSlot(vm) != "", nil
}
