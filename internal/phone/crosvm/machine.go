package crosvm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/sovereign-sql/sov/internal/contract/avf"
)

// A Machine is what to run.
type Machine struct {
	Name      string
	Kernel    string   // path of an arm64 Image or an x86-64 bzImage
	Params    []string // of the kernel's command line
	MemoryMiB int
	CPUs      int
	Disks     []Disk      // vda, vdb, … in this order
	TAP       string      // name of an interface that exists; empty: no network
	MAC       string      // the guest's hardware address; on Android 13 crosvm takes one of its own
	Socket    string      // path of the control socket, which crosvm makes in a folder of its own
	Console   string      // path of a file to which crosvm appends what the guest writes to hvc0
	Early     string      // path of a file to which crosvm appends what the kernel writes before hvc0 is there; empty: none
	Requests  string      // path of a pipe whose lines the guest reads at hvc1, see Request
	Options   avf.Options // with nothing left open, see avf.Options.On; no hypervisor: the phone shows none
}

// A Disk is a raw image.
type Disk struct {
	Path     string
	ReadOnly bool
}

// args returns the program's words for m, whose paths are as crosvm is to open them, with its TAP
// interface at a descriptor. A machine that this program cannot run is an error that wraps
// ErrLacks.
//
// Its root disk is not told to crosvm as such: the kernel's parameters name it.
func (p *Program) args(m Machine, tap int) ([]string, error) {
	if m.Kernel == "" || m.Socket == "" {
		return nil, errors.New("crosvm: a machine needs a kernel and a control socket")
	}
	// Every release knows --extended-status as its first word, and no other place is known to
	// Android 13. Without it, all ends of a guest look the same.
	//
	// No sandbox: it needs minijail's seccomp policies, which Android does not ship for this use.
	args := []string{"--extended-status", "run", "--disable-sandbox", "--mem", strconv.Itoa(m.MemoryMiB), "--cpus", strconv.Itoa(m.CPUs), "--socket", m.Socket}
	if p.Flags["--name"] {
		args = append(args, "--name", m.Name)
	}
	if p.Flags["--no-usb"] {
		args = append(args, "--no-usb")
	}
	if err := p.Lacks(m.Options); err != nil {
		return nil, err
	}
	args = append(args, p.virtualization(m.Options)...)
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
		// crosvm adds the kernel's parameter earlycon for it. The kernel leaves it once hvc0 is its
		// console.
		args = append(args, "--serial", "type=file,hardware=serial,num=1,earlycon=true,path="+m.Early)
	}
	for _, param := range m.Params {
		args = append(args, "--params", param)
	}
	return append(args, m.Kernel), nil
}

// virtualization returns the words about the hypervisor, protection and memory.
func (p *Program) virtualization(o avf.Options) []string {
	var args []string
	if o.Hypervisor != "" && p.Flags["--hypervisor"] {
		args = append(args, "--hypervisor", string(o.Hypervisor))
	}
	if flag := avf.ProtectionFlag(o.Protection); flag != "" {
		args = append(args, flag)
	}
	if o.SwiotlbMiB > 0 {
		args = append(args, "--swiotlb", strconv.Itoa(o.SwiotlbMiB))
	}
	if o.Balloon != nil && !*o.Balloon && p.Flags["--no-balloon"] {
		args = append(args, "--no-balloon")
	}
	if o.HugePages && p.Flags["--hugepages"] {
		args = append(args, "--hugepages")
	}
	return args
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

// MACFor returns a hardware address for a guest that stays the same for a name: locally
// administered, unicast.
func MACFor(name string) string {
	sum := sha256.Sum256([]byte("sov guest " + name))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}.String()
}
