package kernel

import (
	"fmt"
	"strings"

	"github.com/sovereign-sql/sov/internal/image/kconfig"
)

// A Requirement is an option without which the guest does not work. It must be built in: the root
// file system contains no modules.
type Requirement struct {
	Option string // without "CONFIG_"
	Arch   string // "arm64", "amd64", or empty for both
	Why    string // one sentence: what breaks without it
}

// requirements lists options in the order in which a guest would miss them. An option belongs here
// if the guest fails without it, not if it is only better with it.
var requirements = []Requirement{
	// To start at all.
	{"BINFMT_ELF", "", "The kernel could not execute any program, not even sov-init."},
	{"BINFMT_SCRIPT", "", "Shell scripts that a service runs would fail with \"exec format error\"."},
	{"MULTIUSER", "", "Every process would run as root, and PostgreSQL refuses to run as root."},
	{"PCI", "", "The virtual machine's disks and network card sit on a PCI bus that would not be looked at."},
	{"PCI_HOST_GENERIC", "arm64", "The PCI host bridge of crosvm and QEMU would have no driver, so no disk and no network card would be found."},
	{"ARM_GIC_V3", "arm64", "The interrupt controller of crosvm and QEMU would have no driver, and the kernel would stop without a word."},
	{"ARM_PSCI_FW", "arm64", "The guest could neither power off nor start its second processor."},
	{"ARM_ARCH_TIMER", "arm64", "There would be no clock interrupt, and the kernel would hang while starting."},
	{"DMA_RESTRICTED_POOL", "arm64", "A protected guest, which is all that Gunyah runs on most phones, would give its devices memory that the phone cannot see: no disk would be found."},
	{"ACPI", "amd64", "The kernel would not find its devices, nor be able to power off."},
	{"VIRTIO_PCI", "", "No virtio device on the PCI bus would be found: no disks, no network, no console."},
	{"VIRTIO_BLK", "", "The root file system is a virtio disk; the kernel would stop with \"Unable to mount root fs\"."},
	{"VIRTIO_CONSOLE", "", "The console is hvc0; nothing that the guest writes would be seen."},
	{"EXT4_FS", "", "The root file system and the data disk are ext4 and could not be mounted."},
	{"PROC_FS", "", "sov-init, PostgreSQL and Tailscale read /proc; none of them would start."},
	{"PROC_SYSCTL", "", "sov-init could not set kernel parameters such as vm.overcommit_memory."},
	{"SYSFS", "", "sov-init finds network interfaces and disks in /sys."},
	{"DEVTMPFS", "", "/dev would be empty: no disks, no console, no /dev/net/tun."},
	{"TMPFS", "", "/run, /tmp and /dev/shm are tmpfs and could not be mounted."},
	{"BLK_DEV_DM", "", "The kernel could not check the root disk against its hash tree, and would stop with \"Unable to mount root fs\"."},
	{"DM_INIT", "", "The kernel would ignore \"dm-mod.create=\", which maps the root disk before any program runs, and would stop with \"Unable to mount root fs\"."},
	{"DM_VERITY", "", "The kernel could not check the root disk's blocks against its hash tree, and would stop with \"Unable to mount root fs\"."},
	{"CRYPTO_SHA256", "", "The root disk's hash tree is made of SHA-256, and the kernel could not compute it."},

	// To open an encrypted data disk.
	{"DM_CRYPT", "", "An encrypted data disk could not be opened."},
	{"CRYPTO_AES", "", "An encrypted data disk uses AES, which the kernel could not compute."},
	{"CRYPTO_XTS", "", "An encrypted data disk uses AES in XTS mode, which the kernel could not compute."},

	// To keep services apart.
	{"SECCOMP_FILTER", "", "sov-init could not limit the system calls of services, and would not start them."},
	{"MEMCG", "", "sov-init could not limit the memory of services: one could take all of it, and the kernel would kill another."},
	{"CGROUP_PIDS", "", "sov-init could not limit the processes of services: one could fill the process table, and no other could start."},
	{"CFS_BANDWIDTH", "", "sov-init could not limit the processor time of services."},

	// For sov-init and the Go runtime.
	{"FUTEX", "", "Threads could not wait for one another: no Go program and no musl program with threads would run."},
	{"EPOLL", "", "Go's network poller and PostgreSQL's wait loop need epoll; neither would start."},
	{"EVENTFD", "", "Go's network poller would fail with \"function not implemented\"."},
	{"SIGNALFD", "", "PostgreSQL's wait loop takes its signals through signalfd and would not start."},
	{"POSIX_TIMERS", "", "clock_nanosleep and timer_create would be missing; sleeping and timeouts would fail."},
	{"FILE_LOCKING", "", "Two servers could open one cluster: lock files would not lock."},

	// For PostgreSQL.
	{"SYSVIPC", "", "initdb and PostgreSQL always make one System V shared memory segment, and would fail with \"could not create shared memory segment: Function not implemented\"."},
	{"NET", "", "There would be no sockets: no PostgreSQL, no Tailscale."},
	{"UNIX", "", "PostgreSQL is prepared and checked over a Unix socket, which could not be made."},
	{"INET", "", "There would be no TCP/IP, and clients could not reach PostgreSQL."},
	{"VIRTIO_NET", "", "The guest would have no network interface."},

	// For Tailscale.
	{"TUN", "", "tailscaled opens /dev/net/tun for its interface; without it the guest would not be reachable over the tailnet."},
	{"IP_ADVANCED_ROUTER", "", "Tailscale routes by policy rules, which the kernel would not know."},
	{"IP_MULTIPLE_TABLES", "", "Tailscale keeps its routes in table 52, which the kernel would not have."},
	{"NETFILTER", "", "Tailscale could not mark its own packets and would send them into its own tunnel."},
	{"NF_CONNTRACK", "", "Tailscale's firewall rules match connections, which the kernel would not track."},
	{"NF_NAT", "", "Tailscale's chain in the nat table could not be made."},
	{"NF_TABLES", "", "Tailscale talks to the firewall through nf_tables, as Alpine's iptables does too."},
	{"NF_TABLES_IPV4", "", "nf_tables would have no IPv4 tables, and Tailscale's rules would be refused."},
	{"NFT_CT", "", "nf_tables could not match the state of a connection, and Tailscale's rules would be refused."},
	{"NFT_NAT", "", "nf_tables could not translate addresses, and Tailscale's nat chain would be refused."},
	{"NFT_MASQ", "", "nf_tables could not masquerade, and Tailscale's rule for it would be refused."},
	{"NFT_COMPAT", "", "Alpine's iptables writes xtables matches into nf_tables and would fail with \"Extension MARK revision 0 not supported\"."},
	{"NETFILTER_XT_MARK", "", "iptables could neither set nor match packet marks, by which Tailscale knows its own packets."},
	{"NETFILTER_XT_CONNMARK", "", "iptables could not carry a mark over to the replies of a connection, so Tailscale's would be misrouted."},
	{"NETFILTER_XT_MATCH_CONNTRACK", "", "iptables could not match the state of a connection, and Tailscale's rules would be refused."},
	{"NETFILTER_XT_TARGET_MASQUERADE", "", "iptables could not masquerade, and Tailscale's rule for it would be refused."},
}

// KeyOptions returns the options that a compiled kernel must have, for its cache key. The
// explanations are not part of the key, since a change of one must not recompile kernels.
func KeyOptions(arch string) (options []string) {
	for _, r := range Requirements(arch, AllFeatures) {
		options = append(options, r.Option)
	}
	return options
}

func ofArch(arch string, list []Requirement) (out []Requirement) {
	for _, r := range list {
		if r.Arch == "" || r.Arch == arch {
			out = append(out, r)
		}
	}
	return out
}

// A Missing is a requirement that a kernel does not meet.
type Missing struct {
	Requirement
	Module bool // the option is there, but as a module
}

// String returns the option and what would break, as one line.
func (m Missing) String() string {
	if m.Module {
		return fmt.Sprintf("CONFIG_%s is a module (=m) and the guest loads none. %s", m.Option, m.Why)
	}
	return fmt.Sprintf("CONFIG_%s is not set. %s", m.Option, m.Why)
}

// Check returns what a kernel of that architecture with that configuration lacks for a guest with
// these features, in the order of Requirements.
func Check(arch string, c kconfig.Config, f Features) []Missing {
	var out []Missing
	for _, r := range Requirements(arch, f) {
		if v := c[r.Option]; v != "y" {
			out = append(out, Missing{r, v == "m"})
		}
	}
	return out
}

// An UnfitError says why a kernel cannot carry the guest.
type UnfitError struct {
	Kernel  string // what was looked at
	Missing []Missing
}

func (e *UnfitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s cannot run the guest:", e.Kernel)
	for _, m := range e.Missing {
		b.WriteString("\n  " + m.String())
	}
	return b.String()
}
