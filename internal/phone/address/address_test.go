package address

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/avf"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func TestFree(t *testing.T) {
	for _, tt := range []struct {
		wanted string
		taken  []netip.Prefix
		want   string
	}{
		{"192.168.100.1/24", nil, "192.168.100.1/24"},
		{"192.168.100.1/24", prefixes("192.168.100.0/24", "192.168.101.128/25"), "192.168.102.1/24"},
		{"192.168.127.1/24", prefixes("192.168.127.0/24"), "10.213.0.1/24"},
		{"192.168.100.1/24", prefixes("192.168.100.0/22", "192.168.104.0/21", "192.168.112.0/20", "10.0.0.0/8"), "192.168.96.1/24"},
		{"172.20.0.1/24", nil, "192.168.96.1/24"},
		{"192.168.100.1/24", prefixes("192.168.0.0/16"), "10.213.0.1/24"},
		{"192.168.100.1/24", prefixes("192.168.0.0/16", "10.0.0.0/8"), ""},
	} {
		got, err := free(netip.MustParsePrefix(tt.wanted), tt.taken)
		if (err != nil) != (tt.want == "") || err == nil && got.String() != tt.want {
			t.Errorf("%s beside %v: got %v, %v", tt.wanted, tt.taken, got, err)
		}
	}
}

// install makes a version the current one of a machine.
func install(t *testing.T, root phonepath.Root, name string, n vmspec.Network) phonepath.VM {
	t.Helper()
	vm, err := root.VM(name)
	if err != nil {
		t.Fatal(err)
	}
	n.Guest, n.MTU, n.Routing, n.Hostname = netip.PrefixFrom(n.Host.Addr().Next(), n.Host.Bits()), 1500, vmspec.Auto, name
	spec := &vmspec.Spec{Format: vmspec.Format, Name: name, Arch: "arm64", Kernel: artifact.KernelFile, MemoryMiB: 64, CPUs: 1, Options: avf.Options{},
		Disks: []vmspec.Disk{{Role: vmspec.RoleRootfs, File: artifact.RootfsFile, ReadOnly: true}}, Network: n, Ready: vmspec.Ready{Port: 1, TimeoutSeconds: 1}}
	text, err := spec.Encode()
	if err == nil {
		err = os.MkdirAll(vm.Slot("a"), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(vm.Slot("a"), artifact.SpecFile), text, 0o644)
	}
	if err == nil {
		os.Remove(vm.Current())
		err = os.Symlink(phonepath.SlotLink("a"), vm.Current())
	}
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func TestClaim(t *testing.T) {
	root := phonepath.Root(t.TempDir())
	fixed := vmspec.Network{TAP: "vm_sql", Host: netip.MustParsePrefix("192.168.100.1/24")}
	unset := func(tap string) vmspec.Network {
		return vmspec.Network{TAP: tap, Host: vmspec.FirstHost, AddressUnset: true}
	}
	install(t, root, "sql", fixed)
	chosen := map[netip.Prefix]bool{fixed.Subnet(): true}
	for _, name := range []string{"forge", "vault", "web"} {
		n := unset("vm_" + name)
		vm := install(t, root, name, n)
		if err := Claim(vm, n); err != nil {
			t.Fatal(err)
		}
		Apply(vm, &n)
		if chosen[n.Subnet()] || n.Guest.Addr() != n.Host.Addr().Next() {
			t.Errorf("%s has %s, guest %s", name, n.Host, n.Guest)
		}
		chosen[n.Subnet()] = true
		again := unset("vm_" + name)
		if err := Claim(vm, again); err != nil {
			t.Fatal(err)
		}
		if Apply(vm, &again); again.Host != n.Host {
			t.Errorf("an update moves %s from %s to %s", name, n.Host, again.Host)
		}
	}
	mail, _ := root.VM("mail")
	for _, tt := range []struct{ tap, host, says string }{
		{"vm_mail", "192.168.100.9/28", "mail has the network 192.168.100.0/28, and sql on this phone has 192.168.100.0/24: leave network.host and network.guest out"},
		{"vm_forge", "10.9.9.1/24", "mail has the TAP interface vm_forge, and so has forge on this phone: leave network.tap out"},
		{"vm_mail", "10.9.9.1/24", ""},
	} {
		err := Claim(mail, vmspec.Network{TAP: tt.tap, Host: netip.MustParsePrefix(tt.host)})
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s %s: %v", tt.tap, tt.host, err)
		}
	}
	// Two machines with the same network, installed before the check existed, are still updated.
	twin := install(t, root, "twin", fixed)
	if err := Claim(twin, fixed); err != nil {
		t.Error(err)
	}
	// A machine keeps the addresses that its recipe used to fix, if a phone could have chosen them.
	for name, tt := range map[string]struct{ host, want string }{
		"mine": {"192.168.110.1/24", "192.168.110.1/24"}, "pool": {"10.213.7.1/24", "10.213.7.1/24"},
		"away": {"10.7.7.1/24", ""}, "wide": {"192.168.112.1/20", ""}, "last": {"192.168.113.254/24", ""},
	} {
		n := unset("vm_" + name)
		old := install(t, root, name, vmspec.Network{TAP: n.TAP, Host: netip.MustParsePrefix(tt.host)})
		if err := Claim(old, n); err != nil {
			t.Error(err)
		}
		if Apply(old, &n); (n.Host.String() == tt.host) != (tt.want != "") || !choosable(n) {
			t.Errorf("%s moves from %s to %s", name, tt.host, n.Host)
		}
	}
}
