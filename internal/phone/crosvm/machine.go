package crosvm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/sovereign-sql/sov/internal/contract/avf"
)

// A Machine describes the machine to run.
type Machine struct {
	Name      string
	Kernel    string   // path of an arm64 Image or an x86-64 bzImage
	Params    []string // of the kernel's command line
	MemoryMiB int
	CPUs      int
	Disks     []Disk      // vda, vdb, … in this order
	TAP       string      // name of an interface that exists; empty: no network
	MAC       string      // the guest's hardware address; on Android 13 crosvm chooses its own
	Socket    string      // path of the control socket, which crosvm creates in its own folder
	Console   string      // path of a file to which crosvm appends the output on hvc0
	Early     string      // path of a file to which crosvm appends the kernel's output before hvc0 exists; may be empty
	Requests  string      // path of a pipe whose lines the guest reads at hvc1, see Request
	Options   avf.Options // resolved options, see avf.Options.On; no hypervisor if the phone does not show one
}

// A Disk is a raw image.
type Disk struct {
	Path     string
	ReadOnly bool
}

// args returns the program's arguments for m, whose paths are crosvm's. tap is the descriptor of
// the TAP interface. For a machine that this program cannot run, the error wraps ErrLacks.
//
// The arguments do not declare a root disk: the kernel's parameters name it.
func (p *Program) args(m Machine, tap int) ([]string, error) {
	if m.Kernel == "" || m.Socket == "" {
		return nil, errors.New("crosvm: a machine needs a kernel and a control socket")
	}
	// --extended-status must be the first argument on Android 13; all releases accept it there.
	// Without it, all exits look the same.
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
		// crosvm adds the kernel parameter earlycon for it. The kernel stops using it when hvc0
		// becomes its console.
		args = append(args, "--serial", "type=file,hardware=serial,num=1,earlycon=true,path="+m.Early)
	}
	for _, param := range m.Params {
		args = append(args, "--params", param)
	}
	return append(args, m.Kernel), nil
}

// virtualization returns the arguments for the hypervisor, protection and memory.
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

// MACFor returns a locally administered unicast hardware address derived from a name.
func MACFor(name string) string {
	sum := sha256.Sum256([]byte("sov guest " + name))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}.String()
}
