package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/layout"
)

// A Removal is what Remove did.
type Removal struct {
	Name    string   `json:"name"`
	Removed []string `json:"removed"` // paths
	Kept    []string `json:"kept"`    // paths of what is the user's
}

// Remove shuts a machine down and removes it from the phone: all but its data disk and secrets, or with data those as
// well. The last machine takes this program with it; the runner's settings stay. Where nothing is installed, nothing
// happens.
func Remove(ctx context.Context, root layout.Root, name string, data bool, report func(string)) (*Removal, error) {
	r := &Removal{Name: name, Removed: []string{}, Kept: []string{}}
	vm, err := root.VM(name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(vm.Dir()); err == nil {
		err = r.machine(ctx, root, vm, data, report)
		if err != nil {
			return nil, fmt.Errorf("remove %s: %w", name, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove %s: %w", name, err)
	}
	if err := r.secrets(vm, data); err != nil {
		return nil, fmt.Errorf("remove %s: %w", name, err)
	}
	if err := r.program(root); err != nil {
		return nil, fmt.Errorf("remove %s: %w", name, err)
	}
	return r, nil
}

// machine removes the machine's folder. The link to what is started goes first: what is half removed cannot be started.
func (r *Removal) machine(ctx context.Context, root layout.Root, vm layout.VM, data bool, report func(string)) error {
	if err := Down(ctx, root, vm.Name, report); err != nil {
		return err
	}
	lock, err := takeLock(vm)
	if err != nil {
		return err
	}
	defer lock.release()
	if err := r.remove(vm.Current()); err != nil {
		return err
	}
	entries, err := os.ReadDir(vm.Dir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(vm.Dir(), e.Name())
		if path == vm.Data() && !data {
			r.Kept = append(r.Kept, path)
			continue
		}
		if err := r.remove(path); err != nil {
			return err
		}
	}
	if len(r.Kept) > 0 {
		return nil
	}
	return r.remove(vm.Dir())
}

func (r *Removal) secrets(vm layout.VM, data bool) error {
	if data {
		return r.remove(vm.Secrets())
	}
	if _, err := os.Lstat(vm.Secrets()); err == nil {
		r.Kept = append(r.Kept, vm.Secrets())
	}
	return nil
}

// program removes what serves all machines once there is none: neither one that is installed, nor the data of one.
func (r *Removal) program(root layout.Root) error {
	machines, err := os.ReadDir(root.VMs())
	if err != nil && !errors.Is(err, fs.ErrNotExist) || len(machines) > 0 {
		return err
	}
	for _, path := range []string{root.VMs(), root.Ledger(), root.Ledger() + ".lock", filepath.Dir(root.Runner())} {
		if err := r.remove(path); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(root.Settings()); err == nil {
		r.Kept = append(r.Kept, root.Settings())
	}
	return nil
}

// remove removes a file or folder, where it is there.
func (r *Removal) remove(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	r.Removed = append(r.Removed, path)
	return nil
}
