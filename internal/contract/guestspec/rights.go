package guestspec

import (
	"path"
	"slices"
	"strings"
)

// Rights are what a service may do besides what its user may with files. The zero value is the
// least: the image and the devices that every program needs, to read; its own Directories and
// Tmpfs, to write; no capability, and no way to gain one.
type Rights struct {
	// Capabilities are kept, by the names of capabilities(7) in lower case without "cap_", such as
	// "net_bind_service". All others are dropped for good.
	Capabilities []string `json:"capabilities,omitempty"`
	// Devices are paths in /dev besides null, zero, full, random and urandom.
	Devices []string `json:"devices,omitempty"`
	// Write are files and directories that the service may write besides Directories and Tmpfs.
	// One that does not exist when the service starts stays out of its reach.
	Write []string `json:"write,omitempty"`
}

// Limits bound what all processes of a service take of the machine together.
type Limits struct {
	// Memory is bytes, or a percentage of the machine's memory such as "50%": beyond it, the
	// kernel ends a process of the service (memory.max of cgroup v2). Empty means no limit.
	Memory    string `json:"memory,omitempty"`
	Processes int    `json:"processes,omitempty"` // processes and threads (pids.max); 0 means no limit
	CPU       int    `json:"cpu,omitempty"`       // percent of one processor (cpu.max); 0 means no limit
	Files     int    `json:"files,omitempty"`     // open files of each process (RLIMIT_NOFILE); 0 means as sov-init
	// Keeps is memory, written as Memory, of which nothing is taken back for other services while
	// they have some themselves (memory.low). Weight is the share of a processor for which services
	// wait, from 1 to 10000 (cpu.weight); 0 means 100.
	Keeps  string `json:"keeps,omitempty"`
	Weight int    `json:"weight,omitempty"`
	// Rlimits are further limits of each process, in bytes, by the names of RlimitNames.
	Rlimits map[string]int64 `json:"rlimits,omitempty"`
}

// OwnWeight is that of the services that the machine is there for. A service of a recipe that takes
// all processors leaves them ten shares of eleven.
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

// Hidden are the paths that s must not see, sorted: those in roots, as Config.Roots lists them,
// that another service of list names as its own, and in which s has none itself, and the files with
// another's secrets.
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
