package bundle

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/stages/guestinit"
)

// parameters is the part of the kernel command line between the root file system and the recipe's
// parameters. After a panic the machine ends at once, so that its parent process notices.
var parameters = []string{"ro", "rootfstype=ext4", "init=" + guestinit.ProgramPath, "console=hvc0", "page_alloc.shuffle=1", "panic=-1"}

// spec returns vm.json. The parameters that name the root file system come first.
func spec(r *recipe.Recipe, arch string, root []string) (*vmspec.Spec, error) {
	network, err := network(r.Network)
	if err != nil {
		return nil, err
	}
	s := &vmspec.Spec{
		Format:     vmspec.Format,
		Name:       r.Name,
		Arch:       arch,
		Kernel:     artifact.KernelFile,
		Parameters: slices.Concat(root, parameters, r.Kernel.Parameters),
		MemoryMiB:  int(r.VM.Memory / recipe.MiB),
		CPUs:       r.VM.CPUs,
		Options:    r.VM.Options(),
		Disks: []vmspec.Disk{
			{Role: vmspec.RoleRootfs, File: artifact.RootfsFile, ReadOnly: true},
			{Role: vmspec.RoleData, Size: int64(r.VM.Data), Key: keyPlace(r, r.VM.Encrypt)},
			{Role: vmspec.RoleConfig, ReadOnly: true},
		},
		Network:  network,
		Ports:    []vmspec.Port{},
		Postgres: logins(r.Postgres),
		Ready:    vmspec.Ready{Port: vmspec.StatusPort, TimeoutSeconds: int(time.Duration(r.VM.Ready.Timeout).Seconds())},
	}
	for _, v := range r.Volumes { // after the others, whose device names the kernel and older guests expect
		s.Disks = append(s.Disks, vmspec.Disk{Role: vmspec.RoleVolume, Name: v.Name, Size: int64(v.Size), Key: keyPlace(r, v.Encrypted)})
	}
	if awake := vmspec.Awake(r.VM.Awake); awake != vmspec.AwakeAlways { // older versions of sov-runner do not know the key
		s.Awake = awake
	}
	for _, needed := range r.NeededSecrets() {
		s.Secrets = append(s.Secrets, vmspec.Secret(needed))
	}
	for _, published := range r.Network.Publish {
		p := vmspec.Port{Service: published.Service, Port: published.Port, Forward: slices.Contains(r.Network.Forward, published.Port)}
		if published.Protocol != guestspec.TCP { // older versions of sov-runner do not know the key
			p.Protocol = published.Protocol
		}
		if published.HostPort != published.Port {
			p.HostPort = published.HostPort
		}
		s.Ports = append(s.Ports, p)
	}
	return s, nil
}

// keyPlace returns where the key of a disk is stored.
func keyPlace(r *recipe.Recipe, encrypted bool) vmspec.KeyPlace {
	if !encrypted {
		return ""
	}
	return vmspec.KeyPlace(r.VM.DataKey)
}

// RecipeParameters returns the kernel parameters of a vm.json of this package that its recipe adds.
func RecipeParameters(s *vmspec.Spec) []string {
	i := slices.Index(s.Parameters, parameters[len(parameters)-1])
	return s.Parameters[i+1:]
}

// logins returns the roles that log in to the database, or nil if the recipe does not set them:
// older versions of sov-runner do not know the key.
func logins(p recipe.Postgres) *vmspec.Postgres {
	if !p.Enabled || p.Superuser == "" && len(p.Roles) == 0 {
		return nil
	}
	out := &vmspec.Postgres{Superuser: p.Superuser}
	for _, role := range p.Roles {
		out.Logins = append(out.Logins, vmspec.Login{Role: role.Name, Database: role.Database, Secret: role.Secret()})
	}
	return out
}

func network(n recipe.Network) (vmspec.Network, error) {
	host, err := netip.ParsePrefix(n.Host)
	if err != nil {
		return vmspec.Network{}, fmt.Errorf("network.host: %w", err)
	}
	guest, err := netip.ParseAddr(n.Guest)
	if err != nil {
		return vmspec.Network{}, fmt.Errorf("network.guest: %w", err)
	}
	out := vmspec.Network{TAP: n.TAP, Host: host, Guest: netip.PrefixFrom(guest, host.Bits()), MTU: n.MTU,
		DNS: []netip.Addr{}, Hostname: n.Hostname, Routing: vmspec.Routing(n.Routing), Peers: n.Peers,
		Group: n.Group, After: n.After, AddressUnset: n.AddressUnset, Phone: n.Phone, Egress: n.Egress}
	if n.Routing == "" {
		out.Routing, out.RoutingUnset = vmspec.Auto, true
	}
	for _, server := range n.DNS {
		addr, err := netip.ParseAddr(server)
		if err != nil {
			return vmspec.Network{}, fmt.Errorf("network.dns: %w", err)
		}
		out.DNS = append(out.DNS, addr)
	}
	return out, nil
}
