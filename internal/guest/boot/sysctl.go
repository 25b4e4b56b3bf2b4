//go:build linux

package boot

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sysctls are kernel settings that differ from the defaults. In a name, * means all, default and
// each existing interface: default affects only new interfaces, and IPv6 ignores all for redirects.
//
// The first part is that of Alpine (lib/sysctl.d/00-alpine.conf of alpine-baselayout), without
// three settings: a server does not need IPv6 privacy addresses, the host handles a panic, and
// services may not ping.
var sysctls = []struct{ name, value string }{
	{"net.ipv4.tcp_syncookies", "1"},
	{"net.ipv4.conf.*.rp_filter", "1"},
	{"net.ipv4.conf.*.accept_redirects", "0"},
	{"net.ipv6.conf.*.accept_redirects", "0"},
	{"net.ipv4.conf.*.accept_source_route", "0"},
	{"net.ipv6.conf.*.accept_source_route", "0"},
	{"net.ipv4.tcp_rfc1337", "1"},
	{"fs.protected_hardlinks", "1"},
	{"fs.protected_symlinks", "1"},
	{"kernel.unprivileged_bpf_disabled", "1"},

	// A guest does not route for others.
	{"net.ipv4.conf.*.send_redirects", "0"},
	// Files in sticky directories that another user made are not opened for writing by mistake.
	{"fs.protected_fifos", "2"},
	{"fs.protected_regular", "2"},
	// Hide the kernel's addresses and messages from attackers.
	{"kernel.kptr_restrict", "2"},
	{"kernel.dmesg_restrict", "1"},
	// With Yama: no process without CAP_SYS_PTRACE traces a process or reads its memory.
	{"kernel.yama.ptrace_scope", "2"},
}

// sysctlFiles returns the files of a setting, or none if this kernel does not have it.
func sysctlFiles(name string) []string {
	files, _ := filepath.Glob("/proc/sys/" + strings.ReplaceAll(name, ".", "/")) // the pattern is well formed
	return files
}

// setSysctls applies sysctls and then the recipe's. A setting that this kernel does not have is
// skipped in the former and an error in the latter.
func setSysctls(own map[string]string) error {
	var failed []error
	for _, s := range sysctls {
		for _, file := range sysctlFiles(s.name) {
			failed = append(failed, setSysctl(s.name, file, s.value))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		file := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		if _, err := os.Stat(file); err != nil {
			failed = append(failed, fmt.Errorf("set %s: this kernel has no such setting: correct vm.sysctl of the recipe", name))
			continue
		}
		failed = append(failed, setSysctl(name, file, own[name]))
	}
	return errors.Join(failed...)
}

func setSysctl(name, file, value string) error {
	// An interface may have disappeared.
	if err := os.WriteFile(file, []byte(value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("set %s to %s: %w", name, value, err)
	}
	return nil
}
