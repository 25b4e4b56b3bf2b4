//go:build linux

package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sysctls are settings of the kernel that differ from its own defaults. The first part is what
// Alpine's boot would set (lib/sysctl.d/00-alpine.conf of alpine-baselayout), without IPv6 privacy
// addresses, which a server must not have, and the reboot after a panic, which the host decides.
var sysctls = []struct{ name, value string }{
	{"net.ipv4.tcp_syncookies", "1"},
	{"net.ipv4.conf.default.rp_filter", "1"},
	{"net.ipv4.conf.all.rp_filter", "1"},
	{"net.ipv4.conf.default.accept_redirects", "0"},
	{"net.ipv4.conf.all.accept_redirects", "0"},
	{"net.ipv6.conf.default.accept_redirects", "0"},
	{"net.ipv6.conf.all.accept_redirects", "0"},
	{"net.ipv4.conf.all.accept_source_route", "0"},
	{"net.ipv6.conf.all.accept_source_route", "0"},
	{"net.ipv4.tcp_rfc1337", "1"},
	{"fs.protected_hardlinks", "1"},
	{"fs.protected_symlinks", "1"},
	{"kernel.unprivileged_bpf_disabled", "1"},

	// A guest routes for nobody.
	{"net.ipv4.conf.all.send_redirects", "0"},
	{"net.ipv4.conf.default.send_redirects", "0"},
	// Files in sticky directories that another user made are not opened for writing by mistake.
	{"fs.protected_fifos", "2"},
	{"fs.protected_regular", "2"},
	// No addresses and messages of the kernel for those who may attack it.
	{"kernel.kptr_restrict", "2"},
	{"kernel.dmesg_restrict", "1"},
	// With Yama: nobody without CAP_SYS_PTRACE traces a process or reads its memory.
	{"kernel.yama.ptrace_scope", "2"},
}

// sysctlFile is where the kernel has a setting.
func sysctlFile(name string) string {
	return filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
}

// setSysctls applies sysctls. A setting that this kernel does not have is left out.
func setSysctls() error {
	var failed []error
	for _, s := range sysctls {
		err := os.WriteFile(sysctlFile(s.name), []byte(s.value), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = append(failed, fmt.Errorf("set %s to %s: %w", s.name, s.value, err))
		}
	}
	return errors.Join(failed...)
}
