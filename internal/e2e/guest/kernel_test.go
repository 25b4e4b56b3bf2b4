package guest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/image/kconfig"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
	"github.com/sovereign-sql/sov/kernel"
)

// TestKernelOptions compares the configurations in the kernels with the fragments. The kernel's
// build drops an option that is unknown or conflicts with others without an error.
func TestKernelOptions(t *testing.T) {
	for _, arch := range []string{"arm64", "amd64"} {
		image, err := os.ReadFile(filepath.Join(sovtest.Artifact(t, arch), "kernel"))
		if err != nil {
			t.Fatal(err)
		}
		opened, err := kconfig.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		text, err := opened.Config()
		if err != nil {
			t.Fatal(err)
		}
		got, err := kconfig.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		fragments, err := kernel.Fragments(arch)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fragments {
			want, err := kconfig.Parse([]byte(f.Text))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range want.Names() {
				if got[name] != want[name] {
					t.Errorf("%s: CONFIG_%s is %q, and %s has %q", arch, name, got[name], f.Name, want[name])
				}
			}
			for _, name := range kconfig.Unset([]byte(f.Text)) {
				if _, ok := got[name]; ok {
					t.Errorf("%s: CONFIG_%s is on, and %s has it off", arch, name, f.Name)
				}
			}
		}
	}
}

// hardened maps files of the guest's kernel, as patterns, to the values that hardening requires.
var hardened = map[string]string{
	// Set by Alpine's boot.
	"/proc/sys/net/ipv4/tcp_syncookies":             "1",
	"/proc/sys/net/ipv4/tcp_rfc1337":                "1",
	"/proc/sys/net/ipv4/conf/*/rp_filter":           "1",
	"/proc/sys/net/ipv4/conf/*/accept_redirects":    "0",
	"/proc/sys/net/ipv6/conf/*/accept_redirects":    "0",
	"/proc/sys/net/ipv4/conf/*/accept_source_route": "0",
	"/proc/sys/net/ipv6/conf/*/accept_source_route": "0",
	"/proc/sys/fs/protected_hardlinks":              "1",
	"/proc/sys/fs/protected_symlinks":               "1",
	// Set by sov-init in addition.
	"/proc/sys/net/ipv4/conf/*/send_redirects": "0",
	"/proc/sys/fs/protected_fifos":             "2",
	"/proc/sys/fs/protected_regular":           "2",
	"/proc/sys/kernel/kptr_restrict":           "2",
	"/proc/sys/kernel/dmesg_restrict":          "1",
	"/proc/sys/kernel/yama/ptrace_scope":       "2",
	// Set by the kernel's options and parameters.
	"/proc/sys/kernel/randomize_va_space":       "2",
	"/proc/sys/kernel/panic_on_oops":            "1",
	"/sys/module/page_alloc/parameters/shuffle": "Y",
}

// checkHardening reads the values in the guest. A setting that the kernel does not support has no
// file to read.
func checkHardening(t *testing.T, g *guesttest.Guest) {
	t.Helper()
	for pattern, want := range hardened {
		lines := g.Shell(t, "grep -H . "+pattern)
		if len(lines) == 0 || strings.Contains(pattern, "*") && len(lines) < 4 { // all, default, lo and the host's
			t.Errorf("%s: %q", pattern, lines)
		}
		for _, line := range lines {
			if file, got, _ := strings.Cut(line, ":"); got != want {
				t.Errorf("%s is %s, want %s", file, got, want)
			}
		}
	}
	if lines := g.Shell(t, "su -s /bin/sh postgres -c dmesg 2>&1 || true"); !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "not permitted") }) {
		t.Errorf("another user than root reads the kernel's messages: %.5q", lines)
	}
	// Even root, which may read the file, does not see the addresses of the kernel's functions.
	if lines := g.Shell(t, "grep -cv '^0000000000000000 ' /proc/kallsyms || true"); !slices.Equal(lines, []string{"0"}) {
		t.Errorf("the kernel tells the addresses of %v functions", lines)
	}
}

// checkAbsentCalls runs a program as root, without the filter that services have. It tries system
// calls that the kernel must not contain.
func checkAbsentCalls(t *testing.T, g *guesttest.Guest, arch string) {
	t.Helper()
	g.Install(t, arch, "./testdata/absentcalls", "/data/absentcalls")
	if out := g.Shell(t, "/data/absentcalls 2>&1; rm /data/absentcalls"); !slices.Equal(out, []string{"absent"}) {
		t.Errorf("%q", out)
	}
}

// TestNoFirewall starts a machine whose kernel cannot load its firewall. It must not become ready,
// must report the reason at once, and must not run PostgreSQL.
func TestNoFirewall(t *testing.T) {
	t.Parallel()
	dir := artifacttest.Change(t, sovtest.Artifact(t, "arm64"), "2", func(s *vmspec.Spec) { s.Parameters = append(s.Parameters, guesttest.NoFirewall) })
	g := guesttest.PowerOn(t, localvm.Options{Artifact: dir, State: guesttest.Seeded(t, "arm64")})
	var last *guestapi.Status
	err := g.Ready(t.Context(), func(s *guestapi.Status) { last = s })
	if !errors.Is(err, localvm.ErrNotReady) || !strings.Contains(err.Error(), "postgres is failed: the firewall is not loaded") {
		t.Errorf("it is ready, or does not say why not: %v", err)
	}
	if last == nil || last.Ready || !slices.ContainsFunc(last.Problems, func(p string) bool { return strings.HasPrefix(p, "firewall: ") }) {
		t.Errorf("status: %+v", last)
	}
	if lines := g.Shell(t, "pidof postgres || echo none"); !slices.Equal(lines, []string{"none"}) {
		t.Errorf("PostgreSQL runs: %v", lines)
	}
	g.Stop(t)
}
