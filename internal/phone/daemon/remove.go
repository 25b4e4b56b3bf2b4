package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/phone/network"
	"github.com/sovereign-sql/sov/internal/phone/trust"
)

// RemoveOptions configure Remove.
type RemoveOptions struct {
	Data   bool         // also remove the data disk, volumes and secrets
	Force  bool         // continue after errors, and list what is left in Removal.Left
	Report func(string) // takes lines about progress; nil: none
}

// A removal records what Remove did.
type removal struct {
	runnerapi.Removal
	RemoveOptions
	network bool // the machine was removed from the phone's network
}

// Remove shuts a machine down and removes it from the phone. It keeps the data disk, volumes and
// secrets unless Data is set. Removing the last machine also removes this program and its files.
// The runner's settings, the trusted keys and the serials of signed versions stay, so that a
// removed machine cannot be replaced by an older version. If nothing is installed, Remove does
// nothing. Without Force it stops at the first error.
func Remove(ctx context.Context, root phonepath.Root, name string, o RemoveOptions) (*runnerapi.Removal, error) {
	if o.Report == nil {
		o.Report = func(string) {}
	}
	r := &removal{Removal: runnerapi.NewRemoval(name), RemoveOptions: o, network: true}
	vm, err := root.VM(name)
	if err != nil {
		return nil, err
	}
	if err := r.all(ctx, root, vm); err != nil {
		return nil, fmt.Errorf("remove %s: %w", name, err)
	}
	return &r.Removal, nil
}

// logOutTime is how long a removal waits for the control server.
const logOutTime = 30 * time.Second

// logOut tries to remove a machine's node from its tailnet before the node's state is deleted. It
// returns a description of the result.
func logOut(ctx context.Context, root phonepath.Root, vm phonepath.VM) string {
	stays := "; where the machine has a node, it stays on the tailnet: remove it in the tailnet's admin console"
	node, err := lastNode(vm)
	if err == nil && node != nil {
		stays = fmt.Sprintf("; its node %s (%s) stays on the tailnet: remove it in the tailnet's admin console", node.Name, node.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, logOutTime)
	defer cancel()
	client, err := clientOf(root, vm.Name)
	if err != nil {
		if _, keyless := os.Stat(filepath.Join(vm.Secrets(), guestspec.ServiceTailscale)); keyless != nil && node == nil {
			return "" // the machine never had an auth key
		}
		return "the machine did not run and could not log out" + stays
	}
	status, err := client.Status(ctx)
	switch {
	case err != nil:
		return "the guest does not answer and could not log out" + stays
	case status.Tailnet == nil || status.Tailnet.State == guestapi.TailnetOff || len(status.Tailnet.Addresses) == 0:
		return "" // the machine does not have a node
	}
	if _, err := client.Repair(ctx, guestapi.RepairTailnetLogout); err != nil {
		return err.Error() + stays
	}
	return "the node " + status.Tailnet.Hostname + " is logged out"
}

// pass returns err, or with Force records it and returns nil.
func (r *removal) pass(what string, err error) error {
	if err == nil || !r.Force {
		return err
	}
	r.Left = append(r.Left, fmt.Sprintf("%s: %v", what, err))
	return nil
}

func (r *removal) all(ctx context.Context, root phonepath.Root, vm phonepath.VM) error {
	before, err := os.ReadDir(vm.Dir())
	switch {
	case err == nil:
		err = r.machine(ctx, root, vm, before)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	default:
		err = r.pass(vm.Dir(), err)
	}
	if err != nil {
		return err
	}
	if err := r.secrets(vm); err != nil {
		return err
	}
	r.Found = len(r.Removed)+len(r.Left) > 0
	if err := r.program(root); err != nil {
		return err
	}
	return r.pass(string(root), removeEmpty(vm.Secrets(), filepath.Dir(vm.Secrets()), vm.Dir(), root.VMs(), string(root)))
}

// machine removes the content of the machine's folder; before is its listing before any change. The
// link `current` is removed first, so that a partly removed machine cannot be started.
func (r *removal) machine(ctx context.Context, root phonepath.Root, vm phonepath.VM, before []fs.DirEntry) error {
	if r.Data {
		r.Tailnet = logOut(ctx, root, vm)
	}
	if err := down(ctx, root, vm, r.Report, func(step string, err error) error {
		r.network = r.network && (err == nil || step != stepNetwork)
		return r.pass(step, err)
	}); err != nil {
		return err
	}
	lock, err := takeLock(vm)
	if err != nil && !r.Force { // with Force, down has tried it and recorded the error
		return err
	}
	if err == nil {
		defer lock.Release()
	}
	if err := r.remove(vm.Current()); err != nil {
		return err
	}
	for _, e := range before {
		path := filepath.Join(vm.Dir(), e.Name())
		if path == vm.Node() && !r.Data {
			continue // for a later removal of the data
		}
		if isData(vm, path) && !r.Data {
			r.Kept = append(r.Kept, path)
			continue
		}
		if err := r.remove(path); err != nil {
			return err
		}
	}
	return r.pass(vm.Run(), os.RemoveAll(vm.Run())) // Down creates it if it does not exist
}

func (r *removal) secrets(vm phonepath.VM) error {
	if r.Data {
		return r.remove(vm.Secrets())
	}
	if files, err := os.ReadDir(vm.Secrets()); err == nil && len(files) > 0 {
		r.Kept = append(r.Kept, vm.Secrets())
	}
	return nil
}

// program removes the files for all machines, unless another machine exists.
func (r *removal) program(root phonepath.Root) error {
	another, err := anyInstalled(root)
	if another || err != nil {
		return r.pass(root.VMs(), err)
	}
	if !r.network { // this program is still needed to undo what the ledger lists
		r.Left = append(r.Left, root.Ledger(), root.Runner())
		return nil
	}
	for _, path := range append(network.LedgerFiles(root.Ledger()), filepath.Dir(root.Runner())) {
		if err := r.remove(path); err != nil {
			return err
		}
	}
	if err := r.pass(root.Ledger(), durable.RemoveLeftovers(root.Ledger())); err != nil {
		return err
	}
	if _, err := os.Lstat(root.Settings()); err == nil {
		r.Kept = append(r.Kept, root.Settings())
	}
	r.Kept = append(r.Kept, trust.Of(root).Files()...)
	return nil
}

// isData reports whether a path in a machine's folder is its data disk or its volumes.
func isData(vm phonepath.VM, path string) bool { return path == vm.Data() || path == vm.Volumes() }

// anyInstalled reports whether a machine with more than its data exists: one that is installed,
// being installed, or running.
func anyInstalled(root phonepath.Root) (bool, error) {
	machines, err := os.ReadDir(root.VMs())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, m := range machines {
		vm, err := root.VM(m.Name())
		if err != nil || !m.IsDir() {
			continue // not a machine's folder
		}
		entries, err := os.ReadDir(vm.Dir())
		if err != nil {
			return false, err
		}
		for _, e := range entries {
			if path := filepath.Join(vm.Dir(), e.Name()); !isData(vm, path) && path != vm.Node() {
				return true, nil
			}
		}
	}
	return false, nil
}

// remove removes a file or folder if it exists.
func (r *removal) remove(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(path); err != nil {
		return r.pass(path, err)
	}
	r.Removed = append(r.Removed, path)
	return nil
}

// removeEmpty removes empty folders, in order.
func removeEmpty(dirs ...string) error {
	for _, dir := range dirs {
		err := unix.Rmdir(dir)
		switch err {
		case nil, unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST, unix.EBUSY: // EBUSY: a file system is mounted there
		default:
			return fmt.Errorf("remove the empty folder %s: %w", dir, err)
		}
	}
	return nil
}
