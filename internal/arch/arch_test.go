package arch

import (
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	for _, w := range []Arch{
		{"arm64", []string{"aarch64", "armv8l", "arm64"}, "aarch64", "arm64", "aarch64-linux-gnu", "arm64", "aarch64", "arm64"},
		{"amd64", []string{"x86_64"}, "x86_64", "amd64", "x86_64-linux-gnu", "x86_64", "x86_64", "x64"},
	} {
		got, err := Get(w.Go)
		if err != nil || !Valid(w.Go) {
			t.Errorf("%s: %v, valid: %t", w.Go, err, Valid(w.Go))
			continue
		}
		if got.Go != w.Go || !slices.Equal(got.Uname, w.Uname) || got.Alpine != w.Alpine || got.Debian != w.Debian || got.Triplet != w.Triplet ||
			got.Kernel != w.Kernel || got.QEMU != w.QEMU || got.Installer != w.Installer {
			t.Errorf("got  %+v\nwant %+v", got, w)
		}
		for _, machine := range w.Uname {
			if a, err := OfUname(machine); err != nil || a.Go != w.Go {
				t.Errorf("uname -m says %s: %s, %v; want %s", machine, a.Go, err, w.Go)
			}
		}
	}
	if got := strings.Join(Names(), " "); got != "arm64 amd64" || len(All()) != 2 {
		t.Errorf("names %q", got)
	}
}

func TestRefused(t *testing.T) {
	for _, name := range []string{"", "aarch64", "x86_64", "ARM64", "riscv64", "arm"} {
		if _, err := Get(name); err == nil || !strings.Contains(err.Error(), "must be arm64 or amd64") || Valid(name) {
			t.Errorf("%q: %v, valid: %t", name, err, Valid(name))
		}
	}
	// A 32-bit kernel, a big-endian one, and other processors.
	for _, machine := range []string{"", "armv7l", "armv8b", "aarch64_be", "i686", "riscv64"} {
		if _, err := OfUname(machine); err == nil || !strings.Contains(err.Error(), "must be arm64 or amd64") {
			t.Errorf("uname -m says %q: %v", machine, err)
		}
	}
}

// This computer says what the table says of it.
func TestThisComputer(t *testing.T) {
	machine, err := exec.Command("uname", "-m").Output()
	if err != nil {
		t.Skip("needs uname")
	}
	if a, err := OfUname(strings.TrimSpace(string(machine))); err != nil || a.Go != runtime.GOARCH {
		t.Errorf("%s: %+v, %v; this is a program for %s", machine, a, err, runtime.GOARCH)
	}
}
