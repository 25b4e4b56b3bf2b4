package crosvm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// A Machine is what to run.
type Machine struct {
	Name       string
	Kernel     string   // path of an arm64 Image or an x86-64 bzImage
	Params     []string // of the kernel's command line
	MemoryMiB  int
	CPUs       int
	Disks      []Disk     // vda, vdb, … in this order
	TAP        string     // name of an interface that exists; empty: no network
	MAC        string     // the guest's hardware address; on Android 13 crosvm takes one of its own
	Socket     string     // path of the control socket, which crosvm makes in a folder of its own
	Console    string     // path of a file to which crosvm appends what the guest writes to hvc0
	Early      string     // path of a file to which crosvm appends what the kernel writes before hvc0 is there; empty: none
	Requests   string     // path of a pipe whose lines the guest reads at hvc1, see Request
	Hypervisor Hypervisor // that crosvm is to use
	Protection Protection
	SwiotlbMiB int  // memory through which a protected guest and its devices speak; 0: as crosvm has it
	Balloon    bool // the guest gives memory back that it does not use
	HugePages  bool // the guest's memory is backed by huge pages where the kernel has them
}

// A Disk is a raw image.
type Disk struct {
	Path     string
	ReadOnly bool
}

// A Protection is what keeps the phone's own system out of a guest's memory.
type Protection string

// Protections. Which of them a phone can do is the hypervisor's business.
const (
	Unprotected     Protection = "none"
	Protected       Protection = "protected"                  // behind the phone's own firmware for protected machines (pvmfw)
	WithoutFirmware Protection = "protected-without-firmware" // the kernel is started as it is
)

// protectionFlags are crosvm's.
var protectionFlags = map[Protection]string{Protected: "--protected-vm", WithoutFirmware: "--protected-vm-without-firmware"}

// args returns the program's words for m, whose paths are as crosvm is to open them, with its TAP interface at a descriptor.
// A machine that this program cannot run is an error that wraps ErrLacks.
//
// Its root disk is not told to crosvm as such: the kernel's parameters name it.
func (p *Program) args(m Machine, tap int) ([]string, error) {
	if m.Kernel == "" || m.Socket == "" {
		return nil, errors.New("crosvm: a machine needs a kernel and a control socket")
	}
	// Every release knows --extended-status as its first word, and no other place is known to Android 13. Without it, all ends of
	// a guest look the same.
	//
	// No sandbox: it needs minijail's seccomp policies, which Android does not ship for this use.
	args := []string{"--extended-status", "run", "--disable-sandbox", "--mem", strconv.Itoa(m.MemoryMiB), "--cpus", strconv.Itoa(m.CPUs), "--socket", m.Socket}
	if p.Flags["--name"] {
		args = append(args, "--name", m.Name)
	}
	if p.Flags["--no-usb"] {
		args = append(args, "--no-usb")
	}
	hypervisor, err := p.hypervisor(m)
	if err != nil {
		return nil, err
	}
	args = append(args, hypervisor...)
	for _, d := range m.Disks {
		args = append(args, p.disk(d)...)
	}
	if m.TAP != "" {
		args = append(args, p.network(m, tap)...)
	}
	if m.Console != "" {
		args = append(args, "--serial", "type=file,hardware=virtio-console,num=1,console=true,path="+m.Console)
	}
	if m.Requests != "" {
		args = append(args, "--serial", "type=sink,hardware=virtio-console,num=2,input="+m.Requests)
	}
	if m.Early != "" {
		// crosvm adds the kernel's parameter earlycon for it. The kernel leaves it once hvc0 is its console.
		args = append(args, "--serial", "type=file,hardware=serial,num=1,earlycon=true,path="+m.Early)
	}
	for _, param := range m.Params {
		args = append(args, "--params", param)
	}
	return append(args, m.Kernel), nil
}

// hypervisor returns the words about the hypervisor, protection and memory.
func (p *Program) hypervisor(m Machine) ([]string, error) {
	var args []string
	lacks := func(flag string) error {
		return fmt.Errorf("crosvm: %s: %w %s", p.Path, ErrLacks, flag)
	}
	switch {
	case p.Flags["--hypervisor"] && m.Hypervisor != "":
		args = append(args, "--hypervisor", string(m.Hypervisor))
	case m.Hypervisor != "" && m.Hypervisor != KVM: // what does not know the flag, knows KVM alone
		return nil, lacks("--hypervisor")
	}
	if flag := protectionFlags[m.Protection]; flag != "" {
		if !p.Flags[flag] {
			return nil, lacks(flag)
		}
		args = append(args, flag)
	}
	if m.SwiotlbMiB > 0 {
		if !p.Flags["--swiotlb"] {
			return nil, lacks("--swiotlb")
		}
		args = append(args, "--swiotlb", strconv.Itoa(m.SwiotlbMiB))
	}
	if !m.Balloon && p.Flags["--no-balloon"] {
		args = append(args, "--no-balloon")
	}
	if m.HugePages && p.Flags["--hugepages"] {
		args = append(args, "--hugepages")
	}
	return args, nil
}

func (p *Program) disk(d Disk) []string {
	switch {
	case p.Flags["--block"] && d.ReadOnly:
		return []string{"--block", "path=" + d.Path + ",ro"}
	case p.Flags["--block"]:
		return []string{"--block", "path=" + d.Path}
	case d.ReadOnly:
		return []string{"--disk", d.Path}
	default:
		return []string{"--rwdisk", d.Path}
	}
}

func (p *Program) network(m Machine, tap int) []string {
	switch {
	case !p.Flags["--net"]:
		return []string{"--tap-fd", strconv.Itoa(tap)}
	case m.MAC == "":
		return []string{"--net", fmt.Sprintf("tap-fd=%d", tap)}
	default:
		return []string{"--net", fmt.Sprintf("tap-fd=%d,mac=%s", tap, m.MAC)}
	}
}

// MACFor returns a hardware address for a guest that stays the same for a name: locally administered, unicast.
func MACFor(name string) string {
	sum := sha256.Sum256([]byte("sov guest " + name))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}.String()
}
