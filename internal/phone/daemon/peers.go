package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/phone/network"
)

// peers returns the other installed machines whose guests may communicate with spec's: those of its
// group, and those that name each other.
func peers(root phonepath.Root, s Settings, spec *vmspec.Spec, log func(string)) []*vmspec.Spec {
	var out []*vmspec.Spec
	mine := spec.Network
	for _, name := range candidates(root, spec) {
		vm, err := root.VM(name)
		if err != nil {
			log(err.Error())
			continue
		}
		named := slices.Contains(mine.Peers, name)
		other, err := loadArtifact(root, s, vm)
		if err != nil {
			if named {
				log(fmt.Sprintf("peer %s: %v", name, err))
			}
			continue
		}
		theirs := other.spec.Network
		switch {
		case mine.Group != "" && theirs.Group == mine.Group:
		case !named:
			continue
		case !slices.Contains(theirs.Peers, spec.Name):
			log(fmt.Sprintf("peer %s does not name %s among its own: they cannot reach each other", name, spec.Name))
			continue
		}
		if theirs.Subnet().Overlaps(mine.Subnet()) {
			log(fmt.Sprintf("peer %s has the same subnet %s: give it another one in its recipe, or none", name, mine.Subnet()))
			continue
		}
		out = append(out, other.spec)
	}
	return out
}

// candidates returns the names of possible peers; for a machine of a group, all installed machines.
func candidates(root phonepath.Root, spec *vmspec.Spec) []string {
	names := slices.Clone(spec.Network.Peers)
	if spec.Network.Group != "" {
		entries, _ := os.ReadDir(root.VMs()) // without the folder there are no other machines
		for _, e := range entries {
			if vm, err := root.VM(e.Name()); err == nil && vm.Name != spec.Name {
				names = append(names, vm.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// hosts returns the names of a machine and its peers for its guest.
func hosts(root phonepath.Root, s Settings, spec *vmspec.Spec, log func(string)) []configdisk.Host {
	out := []configdisk.Host{{Name: spec.Name + configdisk.Domain, Address: spec.Network.Guest.Addr()}}
	for _, p := range peers(root, s, spec, log) {
		out = append(out, configdisk.Host{Name: p.Name + configdisk.Domain, Address: p.Network.Guest.Addr()})
	}
	return out
}

// A neighbourhood updates a running machine's network and its guest's names when peers are
// installed, updated or removed.
type neighbourhood struct {
	daemon   *Daemon
	artifact *artifact
	vm       network.VM // at its start
	guest    *guestapi.Client
	known    []configdisk.Host // names that the guest has

	mu   sync.Mutex
	said map[string]bool
}

// log logs a line once.
func (n *neighbourhood) log(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.said[line] {
		n.said[line] = true
		n.daemon.log(line)
	}
}

// now returns the machine's network configuration with its current peers.
func (n *neighbourhood) now() network.VM {
	vm := n.artifact.network(n.daemon.Root, n.daemon.settings, n.log)
	vm.Routing = n.vm.Routing
	return vm
}

// tell sends changed names to the guest. If the guest does not answer, the next call tries again.
func (n *neighbourhood) tell(ctx context.Context) {
	names := hosts(n.daemon.Root, n.daemon.settings, n.artifact.spec, n.log)
	if slices.Equal(names, n.known) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, guestPatience)
	defer cancel()
	if err := n.guest.SetHosts(ctx, names); err != nil {
		if ctx.Err() == nil {
			n.log(fmt.Sprintf("tell the guest the names of its peers: %v", err))
		}
		return
	}
	n.known = names
	n.daemon.log(fmt.Sprintf("told the guest the names of %d peers", len(names)-1))
}
