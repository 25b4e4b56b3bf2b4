package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/phone/network"
)

// A removal collects what Remove did.
type removal struct{ runnerapi.Removal }

// Remove shuts a machine down and removes it from the phone: all but its data disk and secrets, or with data those as
// well. The last machine that is installed takes this program and all that serves it along; the runner's settings stay.
// Where nothing is installed, nothing happens.
func Remove(ctx context.Context, root phonepath.Root, name string, data bool, report func(string)) (*runnerapi.Removal, error) {
	r := &removal{runnerapi.NewRemoval(name)}
	vm, err := root.VM(name)
	if err != nil {
		return nil, err
	}
	if err := r.all(ctx, root, vm, data, report); err != nil {
		return nil, fmt.Errorf("remove %s: %w", name, err)
	}
	return &r.Removal, nil
}

func (r *removal) all(ctx context.Context, root phonepath.Root, vm phonepath.VM, data bool, report func(string)) error {
	before, err := os.ReadDir(vm.Dir())
	switch {
	case err == nil:
		err = r.machine(ctx, root, vm, before, data, report)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return err
	}
	if err := r.secrets(vm, data); err != nil {
		return err
	}
	r.Found = len(r.Removed) > 0
	if err := r.program(root); err != nil {
		return err
	}
	return removeEmpty(vm.Secrets(), filepath.Dir(vm.Secrets()), vm.Dir(), root.VMs(), string(root))
}

// machine removes what is in the machine's folder; before is what was there when nothing had been done yet. The link to
// what is started goes first: what is half removed cannot be started.
func (r *removal) machine(ctx context.Context, root phonepath.Root, vm phonepath.VM, before []fs.DirEntry, data bool, report func(string)) error {
	if err := Down(ctx, root, vm.Name, report); err != nil {
		return err
	}
	lock, err := takeLock(vm)
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := r.remove(vm.Current()); err != nil {
		return err
	}
	for _, e := range before {
		path := filepath.Join(vm.Dir(), e.Name())
		if path == vm.Data() && !data {
			r.Kept = append(r.Kept, path)
			continue
		}
		if err := r.remove(path); err != nil {
			return err
		}
	}
	return os.RemoveAll(vm.Run()) // which Down has made where it was not there
}

func (r *removal) secrets(vm phonepath.VM, data bool) error {
	if data {
		return r.remove(vm.Secrets())
	}
	if files, err := os.ReadDir(vm.Secrets()); err == nil && len(files) > 0 {
		r.Kept = append(r.Kept, vm.Secrets())
	}
	return nil
}

// program removes what serves all machines, unless there is another one.
func (r *removal) program(root phonepath.Root) error {
	another, err := anyInstalled(root)
	if another || err != nil {
		return err
	}
	for _, path := range append(network.LedgerFiles(root.Ledger()), filepath.Dir(root.Runner())) {
		if err := r.remove(path); err != nil {
			return err
		}
	}
	if err := durable.RemoveLeftovers(root.Ledger()); err != nil {
		return err
	}
	if _, err := os.Lstat(root.Settings()); err == nil {
		r.Kept = append(r.Kept, root.Settings())
	}
	return nil
}

// anyInstalled tells whether there is a machine of which there is more than a data disk: one that is installed, is being
// installed, or runs.
func anyInstalled(root phonepath.Root) (bool, error) {
	machines, err := os.ReadDir(root.VMs())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, m := range machines {
		vm, err := root.VM(m.Name())
		if err != nil || !m.IsDir() {
			continue // nothing of ours
		}
		entries, err := os.ReadDir(vm.Dir())
		if err != nil {
			return false, err
		}
		for _, e := range entries {
			if e.Name() != filepath.Base(vm.Data()) {
				return true, nil
			}
		}
	}
	return false, nil
}

// remove removes a file or folder, where it is there.
func (r *removal) remove(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	r.Removed = append(r.Removed, path)
	return nil
}

// removeEmpty removes folders that hold nothing, in their order.
func removeEmpty(dirs ...string) error {
	for _, dir := range dirs {
		err := unix.Rmdir(dir)
		switch err {
		case nil, unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST, unix.EBUSY: // the last: a file system is mounted there
		default:
			return fmt.Errorf("remove the empty folder %s: %w", dir, err)
		}
	}
	return nil
}
