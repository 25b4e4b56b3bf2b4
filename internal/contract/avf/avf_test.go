package avf

import (
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	pkvm := Phone{Devices: []string{"kvm"}, Version: "kvm.arm-protected", VM: "1", Protected: "1"}
	gunyah := func(soc string) Phone { return Phone{Devices: []string{"gunyah"}, VM: "0", Protected: "1", SoC: soc} }
	for _, tt := range []struct {
		name  string
		phone Phone
		o     Options
		want  Class
		says  string
	}{
		{"Pixel", pkvm, Options{}, Runs, "KVM (/dev/kvm) kvm.arm-protected, unprotected"},
		{"Pixel, protected", pkvm, Options{Protection: Protected}, Untested, "signed"},
		{"Pixel, without firmware", pkvm, Options{Protection: WithoutFirmware}, Untested, "no report"},
		{"protected only", Phone{Devices: []string{"kvm"}, VM: "false", Protected: "true"}, Options{}, ProtectedOnly, "protected machines only"},
		{"switched off", Phone{Devices: []string{"kvm"}, VM: "0", Protected: "0"}, Options{}, Unsupported, "runs no machines"},
		{"custom kernel", Phone{Devices: []string{"kvm"}}, Options{}, Untested, "does not report"},
		{"no protection", Phone{Devices: []string{"kvm"}, VM: "1", Protected: "0"}, Options{Protection: WithoutFirmware}, Unsupported, "no protected machines"},
		{"8 Elite", gunyah("SM8750"), Options{}, Runs, "8 Elite"},
		{"8 Elite for Galaxy", gunyah("SM8750-AC"), Options{}, Runs, "8 Elite"},
		{"8 Gen 3", gunyah("SM8650"), Options{}, Unsupported, "8 Gen 2 and 3"},
		{"8 Gen 2", gunyah("SM8550P"), Options{}, Unsupported, "8 Gen 2 and 3"},
		{"other Snapdragon", gunyah("SM8450"), Options{}, Untested, "8 Elite"},
		{"Snapdragon, unprotected", gunyah("SM8750"), Options{Protection: Unprotected}, ProtectedOnly, "in all reports"},
		{"Snapdragon that says nothing", Phone{Devices: []string{"gunyah"}}, Options{Protection: Unprotected}, ProtectedOnly, "in all reports"},
		{"Snapdragon behind firmware", gunyah("SM8750"), Options{Protection: Protected}, Unsupported, "signed"},
		{"Helio", Phone{Devices: []string{"gzvm"}, VM: "1", Version: "GenieZone"}, Options{}, Untested, "Helio G85"},
		{"nothing", Phone{}, Options{}, Unsupported, "neither"},
		{"another one", pkvm, Options{Hypervisor: Gunyah}, Unsupported, "/dev/gunyah does not exist"},
		{"both", Phone{Devices: []string{"gunyah", "kvm"}, VM: "1"}, Options{}, Runs, "KVM"},
	} {
		v := tt.phone.Judge(tt.o)
		if v.Class != tt.want || !strings.Contains(v.Reason, tt.says) || v.OK() != (v.Advice == "") {
			t.Errorf("%s: %+v, want %s with %q", tt.name, v, tt.want, tt.says)
		}
	}
}

func TestOptions(t *testing.T) {
	artifact := Options{Protection: Protected, SwiotlbMiB: 14}
	got := Options{SwiotlbMiB: 64, Balloon: new(true)}.Over(artifact).On(KVM)
	if got.Hypervisor != KVM || got.Protection != Protected || got.SwiotlbMiB != 64 || !*got.Balloon {
		t.Errorf("%+v", got)
	}
	for h, want := range map[Hypervisor]Protection{KVM: Unprotected, GenieZone: Unprotected, Gunyah: WithoutFirmware} {
		if o := (Options{}).On(h); o.Protection != want || *o.Balloon != (want == Unprotected) {
			t.Errorf("%s: %+v", h, o)
		}
	}
	for _, bad := range []Options{{Hypervisor: "halla"}, {Protection: "yes"}, {SwiotlbMiB: -1}, {SwiotlbMiB: 1 << 20}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestLacks(t *testing.T) {
	all := ParseHelp("Options:\n  -b, --block       a disk\n                    see --disk\n  --net             x\n  --serial\n  --socket\n  -p, --params x\n  --help y\n")
	if all["--disk"] || all["--help"] || len(all) != 5 {
		t.Errorf("%v", all)
	}
	for want, o := range map[string]Options{"": {}, "Gunyah (--hypervisor)": {Hypervisor: Gunyah}, "protection (--protected-vm)": {Protection: Protected},
		"swiotlb (--swiotlb)": {SwiotlbMiB: 14}} {
		if got := Lacks(all, o); got != want {
			t.Errorf("%+v: %q, want %q", o, got, want)
		}
	}
	delete(all, "--net")
	if got := Lacks(all, Options{}); got != "a network card (--net, --tap-fd)" {
		t.Errorf("%q", got)
	}
}
