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

// newReceiver returns the receiver of a machine's versions. The root folder may not exist yet.
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

// runningSlot returns the slot of a running or starting machine, or "".
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

// Receive installs a version that `sov push` sends, see package pushapi. A refusal is also sent to
// the computer.
func Receive(ctx context.Context, root phonepath.Root, name, version string, in io.Reader, out io.Writer) error {
	r, err := newReceiver(root, name, version)
	if err != nil {
		c := pushapi.NewConn(in, out)
		return errors.Join(err, c.Open(), c.Send(pushapi.KindRefusal, &pushapi.Refusal{Code: pushapi.CodeFailed, Text: err.Error()}))
	}
	return r.Serve(ctx, in, out)
}

// archiveFolder is the artifact's folder in an archive, see package module.
const archiveFolder = "artifact"

// Install installs the version in a folder on the phone, or in the folder "artifact" of a zip
// archive. allowDowngrade accepts a signed version that is older than a previous one.
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

// Slots returns the state of both slots of a machine.
func Slots(root phonepath.Root, name string) ([]runnerapi.Slot, error) {
	vm, err := lookUp(root, name)
	if err != nil {
		return nil, err
	}
	return slots.List(vm), nil
}

// RollBack makes the other version of a machine the current one, and returns whether the running
// machine must be restarted.
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
