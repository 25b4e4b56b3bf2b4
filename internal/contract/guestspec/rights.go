package guestspec

import (
	"path"
	"slices"
	"strings"
)

// Rights are a service's rights in addition to the file permissions of its user. The zero value is
// the minimum: read access to the image and the standard devices, write access to its own
// Directories and Tmpfs, no capabilities, and no way to gain one.
type Rights struct {
	// Capabilities are kept, by the names of capabilities(7) in lower case without "cap_", such as
	// "net_bind_service". All others are dropped permanently.
	Capabilities []string `json:"capabilities,omitempty"`
	// Devices are paths in /dev besides null, zero, full, random and urandom.
	Devices []string `json:"devices,omitempty"`
	// Write are files and directories that the service may write in addition to Directories and
	// Tmpfs. A path that does not exist when the service starts is not accessible.
	Write []string `json:"write,omitempty"`
}

// Limits are the resource limits of all processes of a service together.
type Limits struct {
	// Memory is bytes, or a percentage of the machine's memory such as "50%": beyond it, the kernel
	// kills a process of the service (memory.max of cgroup v2). Empty means no limit.
	Memory    string `json:"memory,omitempty"`
	Processes int    `json:"processes,omitempty"` // processes and threads (pids.max); 0 means no limit
	CPU       int    `json:"cpu,omitempty"`       // percent of one processor (cpu.max); 0 means no limit
	Files     int    `json:"files,omitempty"`     // open files of each process (RLIMIT_NOFILE); 0 means as sov-init
	// Keeps is memory, in the format of Memory, that the kernel does not reclaim for other services
	// while they have reclaimable memory (memory.low). Weight is the service's share of contended
	// processors, from 1 to 10000 (cpu.weight); 0 means 100.
	Keeps  string `json:"keeps,omitempty"`
	Weight int    `json:"weight,omitempty"`
	// Rlimits are further limits of each process, in bytes, by the names of RlimitNames.
	Rlimits map[string]int64 `json:"rlimits,omitempty"`
}

// OwnWeight is the weight of the machine's own services. A recipe's service that uses all
// processors leaves them ten shares of eleven.
const OwnWeight = 1000

// RlimitNames are the limits of setrlimit(2) that are sizes, in lower case without RLIMIT_; Memory
// is in place of those of address spaces.
var RlimitNames = []string{"core", "fsize", "memlock", "stack"}

// capabilities are the names of include/uapi/linux/capability.h, each at its number.
var capabilities = strings.Fields(`chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable
	net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct
	sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override
	mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore`)

// Capability returns the kernel's number of a capability, or false if no capability has that name.
func Capability(name string) (number int, ok bool) {
	number = slices.Index(capabilities, name)
	return number, number >= 0
}

// writes are all paths that s may write, in its order.
func (s Service) writes() []string {
	all := slices.Clone(s.Rights.Write)
	for _, d := range s.Directories {
		all = append(all, d.Path)
	}
	for _, t := range s.Tmpfs {
		all = append(all, t.Path)
	}
	return all
}

// Writable are the files and directories that s may write, sorted, without those inside another.
func (s Service) Writable() []string {
	all := s.writes()
	slices.Sort(all)
	var outer []string
	for _, name := range all {
		if !slices.ContainsFunc(outer, func(o string) bool { return within(name, o) }) {
			outer = append(outer, name)
		}
	}
	return outer
}

// Hidden returns the sorted paths that are hidden from s: directories in roots (see Config.Roots)
// of other services in list in which s does not have its own, and the files with secrets of other
// services.
func (s Service) Hidden(list []Service, roots []string) []string {
	own := s.writes()
	var hidden []string
	for _, other := range list {
		if other.Name == s.Name {
			continue
		}
		for _, name := range other.writes() {
			if Root(roots, name) != "" && !slices.ContainsFunc(own, func(mine string) bool { return within(mine, name) }) {
				hidden = append(hidden, name)
			}
		}
		for _, f := range other.Secrets {
			if !slices.ContainsFunc(s.Secrets, func(mine SecretFile) bool { return mine.Path == f.Path }) {
				hidden = append(hidden, f.Path)
			}
		}
	}
	slices.Sort(hidden)
	return slices.Compact(hidden)
}

// within reports whether the path inner is outer or below it.
func within(inner, outer string) bool {
	return inner == outer || strings.HasPrefix(inner, strings.TrimSuffix(outer, "/")+"/")
}

// DeviceDir is the only directory that Devices may be in.
const DeviceDir = "/dev"

func (p *problems) rights(at string, r Rights) {
	for _, name := range r.Capabilities {
		_, ok := Capability(name)
		p.check(ok, at+".capabilities", "%q is not a capability", name)
	}
	for _, device := range r.Devices {
		p.check(path.Clean(device) == device && strings.HasPrefix(device, DeviceDir+"/"), at+".devices", "%q is not a path in %s", device, DeviceDir)
	}
	for _, name := range r.Write {
		p.absolute(at+".write", name)
	}
}

func (p *problems) limits(at string, l Limits) {
	for key, size := range map[string]string{".memory": l.Memory, ".keeps": l.Keeps} {
		p.check(size == "" || tmpfsSize.MatchString(size), at+key, "%q is neither bytes nor a percentage", size)
	}
	p.check(l.Weight >= 0 && l.Weight <= 10000, at+".weight", "is not from 1 to 10000")
	p.check(l.Processes >= 0, at+".processes", "is negative")
	p.check(l.CPU >= 0, at+".cpu", "is negative")
	p.check(l.Files >= 0, at+".files", "is negative")
	for name, bytes := range l.Rlimits {
		p.check(slices.Contains(RlimitNames, name) && bytes >= 0, at+".rlimits", "%q cannot be %d", name, bytes)
	}
}
