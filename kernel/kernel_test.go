package kernel

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/image/kconfig"
)

var arches = []string{"arm64", "amd64"}

// defaults are requirements that no fragment sets. The kernel cannot be built without them: the
// architecture, or another option of the fragments, selects them.
var defaults = map[string]bool{"ARM_GIC_V3": true, "ARM_PSCI_FW": true, "ARM_ARCH_TIMER": true}

func fragments(t *testing.T, arch string) kconfig.Config {
	t.Helper()
	all := kconfig.Config{}
	files, err := Fragments(arch)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		c, err := kconfig.Parse([]byte(f.Text))
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		for name, value := range c {
			if _, ok := all[name]; ok {
				t.Errorf("%s gives CONFIG_%s, which stands in another fragment too", f.Name, name)
			}
			all[name] = value
		}
	}
	return all
}

func TestFragmentsMeetRequirements(t *testing.T) {
	for _, arch := range arches {
		c := fragments(t, arch)
		for _, m := range Check(arch, c, AllFeatures) {
			if !defaults[m.Option] {
				t.Errorf("%s: %s", arch, m)
			}
		}
	}
}

func TestFragmentsNameOptionsOnce(t *testing.T) {
	for _, arch := range arches {
		files, err := Fragments(arch)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]string{}
		for _, f := range files {
			for line := range strings.Lines(f.Text) {
				name, _, _ := strings.Cut(strings.TrimPrefix(line, "# "), "=")
				name = strings.Fields(name + " .")[0]
				if !strings.HasPrefix(name, "CONFIG_") {
					continue
				}
				if was, ok := seen[name]; ok {
					t.Errorf("%s: %s stands in %s and in %s", arch, name, was, f.Name)
				}
				seen[name] = f.Name
			}
		}
	}
}

func TestRequirementsReadWell(t *testing.T) {
	for _, list := range [][]Requirement{requirements, firewall, disk} {
		seen := map[string]bool{}
		for _, r := range list {
			if seen[r.Option] {
				t.Errorf("%s stands there twice", r.Option)
			}
			seen[r.Option] = true
			if r.Why == "" || !strings.HasSuffix(r.Why, ".") || strings.HasPrefix(r.Option, "CONFIG_") {
				t.Errorf("%+v: want an option without CONFIG_ and a sentence", r)
			}
			if r.Arch != "" && r.Arch != "arm64" && r.Arch != "amd64" {
				t.Errorf("%s: unknown architecture %q", r.Option, r.Arch)
			}
		}
	}
}

// TestKeyOptions pins the options that are part of the keys of compiled kernels. Any change
// recompiles every kernel on every computer.
func TestKeyOptions(t *testing.T) {
	for arch, want := range map[string]string{"arm64": "9bfe6fea70c600680119da9a8f6e27e4776cf43926bb25981bb8fc32b3732232",
		"amd64": "fd724d39f44d2161ff9154529470f91beb973c39116589b462e2b6efe934c23e",
	} {
		if got := fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(KeyOptions(arch), " ")))); got != want {
			t.Errorf("%s: %s, want %s: %q", arch, got, want, KeyOptions(arch))
		}
	}
}

func TestFeatures(t *testing.T) {
	for _, r := range slices.Concat(ofTailscale, ofEncryption, ofPostgres) {
		if !slices.ContainsFunc(requirements, func(known Requirement) bool { return known.Option == r }) {
			t.Errorf("%s is not an option that the guest needs", r)
		}
	}
	has := func(f Features, option string) bool {
		return slices.ContainsFunc(Requirements("arm64", f), func(r Requirement) bool { return r.Option == option })
	}
	for option, with := range map[string]Features{"TUN": {Tailscale: true}, "NFT_COMPAT": {Tailscale: true}, "DM_CRYPT": {Encryption: true}, "SYSVIPC": {Postgres: true}, "EFI_STUB": {Disk: true}} {
		if has(Features{}, option) || !has(with, option) || !has(AllFeatures, option) {
			t.Errorf("%s: without the feature %t, with it %t, with all %t", option, has(Features{}, option), has(with, option), has(AllFeatures, option))
		}
	}
	for _, r := range firewall { // every guest has one
		if !has(Features{}, r.Option) {
			t.Errorf("%s is not required without features", r.Option)
		}
	}
	for _, r := range Requirements("arm64", Features{}) {
		if strings.Contains(r.Why, "Tailscale") && r.Option != "NET" && r.Option != "PROC_FS" {
			t.Errorf("%s is required without Tailscale: %s", r.Option, r.Why)
		}
	}
}

func TestCheck(t *testing.T) {
	c := fragments(t, "amd64")
	if missing := Check("amd64", c, AllFeatures); len(missing) != 0 {
		t.Fatalf("the fragments lack %v", missing)
	}
	delete(c, "SYSVIPC")
	c["TUN"] = "m"
	err := &UnfitError{Kernel: "kernel image k", Missing: Check("amd64", c, AllFeatures)}
	want := `kernel image k cannot run the guest:
  CONFIG_SYSVIPC is not set. initdb and PostgreSQL always make one System V shared memory segment, and would fail with "could not create shared memory segment: Function not implemented".
  CONFIG_TUN is a module (=m) and the guest loads none. tailscaled opens /dev/net/tun for its interface; without it the guest would not be reachable over the tailnet.`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

// TestCheckDisk requires EFI_STUB and a command line that names the boot partition, so that every
// disk image can use the same kernel.
func TestCheckDisk(t *testing.T) {
	for _, arch := range arches {
		c := fragments(t, arch)
		for option := range defaults {
			c[option] = "y"
		}
		if err := CheckDisk(arch, c, Features{}); err != nil {
			t.Errorf("%s: %v", arch, err)
		}
		c["CMDLINE"] = `"root=/dev/vda"`
		if err := CheckDisk(arch, c, Features{}); err == nil || !strings.Contains(err.Error(), "must have root=PARTUUID="+BootPartition) {
			t.Errorf("%s: another command line: %v", arch, err)
		}
		delete(c, "EFI_STUB")
		if err := CheckDisk(arch, c, Features{}); err == nil || !strings.Contains(err.Error(), "CONFIG_EFI_STUB is not set") {
			t.Errorf("%s: without EFI_STUB: %v", arch, err)
		}
	}
}

func TestSourceURL(t *testing.T) {
	if got, want := SourceURL("6.1.192"), "https://cdn.kernel.org/pub/linux/kernel/v6.x/linux-6.1.192.tar.xz"; got != want {
		t.Errorf("SourceURL = %s, want %s", got, want)
	}
	if got, want := SignatureURL("6.1.192"), "https://cdn.kernel.org/pub/linux/kernel/v6.x/linux-6.1.192.tar.sign"; got != want {
		t.Errorf("SignatureURL = %s, want %s", got, want)
	}
}

func TestUnknownArch(t *testing.T) {
	if _, err := Fragments("riscv64"); err == nil || !strings.Contains(err.Error(), "riscv64") {
		t.Errorf("Fragments(riscv64) = %v", err)
	}
}
