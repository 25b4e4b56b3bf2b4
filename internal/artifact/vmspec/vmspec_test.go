package vmspec

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func example() *Spec {
	return &Spec{
		Format: Format, Name: "sql", Arch: "arm64", Kernel: "kernel",
		Parameters: []string{`dm-mod.create="root,,,ro,0 8 verity"`, "root=/dev/dm-0", "ro"},
		MemoryMiB:  1024, CPUs: 2,
		Disks: []Disk{{Role: RoleRootfs, File: "rootfs.img", ReadOnly: true}, {Role: RoleData, Size: 8 << 30}, {Role: RoleConfig, ReadOnly: true}},
		Network: Network{TAP: "vm_sql", Host: netip.MustParsePrefix("192.168.100.1/24"), Guest: netip.MustParsePrefix("192.168.100.2/24"),
			MTU: 1500, DNS: []netip.Addr{netip.MustParseAddr("1.1.1.1")}, Hostname: "sql", Routing: MainFirst, Peers: []string{"other"}},
		Ports: []Port{{Service: "postgres", Port: 5432}},
		Ready: Ready{Port: StatusPort, TimeoutSeconds: 60},
	}
}

func TestEncodeDecode(t *testing.T) {
	text, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got.Cmdline() != `dm-mod.create="root,,,ro,0 8 verity" root=/dev/dm-0 ro` || got.Network.Subnet().String() != "192.168.100.0/24" {
		t.Errorf("command line %q, subnet %s", got.Cmdline(), got.Network.Subnet())
	}
	if d, ok := got.Disk(RoleData); !ok || d.Size != 8<<30 {
		t.Errorf("data disk: %+v, %v", d, ok)
	}
	if port, ok := got.Port("postgres"); !ok || port != 5432 {
		t.Errorf("port of postgres: %d, %v", port, ok)
	}
	if port, ok := got.Port("absent"); ok {
		t.Errorf("port of a service that is not there: %d", port)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		change func(*Spec)
		want   string
	}{
		{func(s *Spec) { s.Format = 2 }, "format is 2"},
		{func(s *Spec) { s.Name = "" }, `name ""`},
		{func(s *Spec) { s.Arch = "mips" }, `arch "mips"`},
		{func(s *Spec) { s.Kernel = "../kernel" }, `kernel "../kernel"`},
		{func(s *Spec) { s.Parameters = []string{"a b"} }, `kernel parameter "a b"`},
		{func(s *Spec) { s.Parameters = []string{`a="b" c"`} }, `must be a word, or NAME`},
		{func(s *Spec) { s.Parameters = []string{`a b="c"`} }, `kernel parameter`},
		{func(s *Spec) { s.Parameters = []string{`a="b c`} }, `kernel parameter`},
		{func(s *Spec) { s.Parameters = []string{"a=\"b\nc\""} }, `kernel parameter`},
		{func(s *Spec) { s.MemoryMiB = 0 }, "memory_mib"},
		{func(s *Spec) { s.CPUs = -1 }, "cpus"},
		{func(s *Spec) { s.Awake = "sometimes" }, `awake "sometimes"`},
		{func(s *Spec) { s.Disks = s.Disks[1:] }, "the first disk"},
		{func(s *Spec) { s.Disks[0].File = "/etc/passwd" }, `"/etc/passwd"`},
		{func(s *Spec) { s.Disks[1].Size = 0 }, "has no size"},
		{func(s *Spec) { s.Disks[2].Role = "swap" }, `role "swap"`},
		{func(s *Spec) { s.Disks[2] = s.Disks[1] }, "a second disk has role data"},
		{func(s *Spec) { s.Disks[1].Name = "media" }, `name "media" is not that of a volume`},
		{func(s *Spec) { s.Disks[2] = Disk{Role: RoleVolume, Size: 1} }, `name "" is not that of a volume`},
		{func(s *Spec) { s.Disks[2] = Disk{Role: RoleVolume, Name: "media"} }, "the volume disk has no size"},
		{func(s *Spec) { s.Disks = append(s.Disks, volume("a", ""), volume("a", "")) }, `a second disk has role volume and name "a"`},
		{func(s *Spec) { s.Disks = append(s.Disks, volume("a", KeyOnHost), volume("b", KeyOnPhone)) }, "the same for all"},
		{func(s *Spec) { s.Disks[2].Key = KeyOnHost }, "of disks with data"},
		{func(s *Spec) { s.Ports[0].Port = 0 }, "port 0"},
		{func(s *Spec) { s.Ready = Ready{} }, "ready.port 0"},
		{func(s *Spec) { s.Network.TAP = "" }, "network.tap"},
		{func(s *Spec) { s.Network.MTU = 10 }, "network.mtu"},
		{func(s *Spec) { s.Network.Routing = "all" }, "network.routing"},
		{func(s *Spec) { s.Network.Peers = []string{"../x"} }, "network.peers"},
		{func(s *Spec) { s.Network.Guest = s.Network.Host }, "not two addresses"},
		{func(s *Spec) { s.Network.Guest = netip.MustParsePrefix("10.0.0.2/24") }, "not two addresses"},
	}
	for _, tt := range tests {
		s := example()
		tt.change(s)
		if _, err := s.Encode(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want something about %s", err, tt.want)
		}
	}
}

func volume(name string, key KeyPlace) Disk {
	return Disk{Role: RoleVolume, Name: name, Size: 1, Key: key}
}

func TestVolumes(t *testing.T) {
	s := example()
	if s.DataKey() != "" {
		t.Errorf("no disk is encrypted, and the key is at %s", s.DataKey())
	}
	s.Disks = append(s.Disks, volume("a", ""), volume("b", KeyOnHost))
	text, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(text); err != nil || got.DataKey() != KeyOnHost || len(got.Disks) != 5 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	text, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{}", string(text) + "{}", strings.Replace(string(text), `"cpus"`, `"gpus"`, 1)} {
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("decoded %.40q", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	text, err := example().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, src []byte) {
		defer costtest.Text.Watch(t, len(src))()
		if s, err := Decode(src); err == nil {
			if _, err := s.Encode(); err != nil {
				t.Errorf("what was read cannot be written: %v", err)
			}
		}
	})
}
