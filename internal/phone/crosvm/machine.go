package crosvm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// A Machine is what to run.
type Machine struct {
	Name      string
	Kernel    string   // path of an arm64 Image or an x86-64 bzImage
	Params    []string // of the kernel's command line
	MemoryMiB int
	CPUs      int
	Disks     []Disk // vda, vdb, … in this order
	TAP       string // name of an interface that exists
	MAC       string // the guest's hardware address; crosvm of before 2023 takes one of its own
	Socket    string // path of the control socket, which crosvm makes
	Console   string // path of a file to which crosvm appends what the guest writes to hvc0
	Early     string // path of a file to which crosvm appends what the guest's kernel writes before hvc0 is there; empty: none
}

// A Disk is a raw image.
type Disk struct {
	Path     string
	ReadOnly bool
}

// Args returns the program's arguments for m. Its root disk is not told to crosvm as such: the kernel's parameters name
// it. Paths with commas cannot be told and are refused.
func (p *Program) Args(m Machine) ([]string, error) {
	for _, path := range append([]string{m.Console, m.Early}, diskPaths(m.Disks)...) {
		if strings.Contains(path, ",") {
			return nil, fmt.Errorf("crosvm: the path %s has a comma, which ends a value in crosvm's arguments", path)
		}
	}
	if m.Kernel == "" || m.Socket == "" {
		return nil, errors.New("crosvm: a machine needs a kernel and a control socket")
	}
	// No sandbox: it needs minijail's seccomp policies, which Android does not ship for this use.
	args := []string{"run", "--disable-sandbox", "--mem", strconv.Itoa(m.MemoryMiB), "--cpus", strconv.Itoa(m.CPUs), "--socket", m.Socket}
	if !p.Old {
		args = append(args, "--name", m.Name)
	}
	for _, d := range m.Disks {
		args = append(args, p.disk(d)...)
	}
	if m.TAP != "" {
		args = append(args, p.network(m)...)
	}
	if m.Console != "" {
		args = append(args, "--serial", "type=file,hardware=virtio-console,num=1,console=true,path="+m.Console)
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

func diskPaths(disks []Disk) []string {
	var out []string
	for _, d := range disks {
		out = append(out, d.Path)
	}
	return out
}

func (p *Program) disk(d Disk) []string {
	switch {
	case !p.Old && d.ReadOnly:
		return []string{"--block", "path=" + d.Path + ",ro"}
	case !p.Old:
		return []string{"--block", "path=" + d.Path}
	case d.ReadOnly:
		return []string{"--disk", d.Path}
	default:
		return []string{"--rwdisk", d.Path}
	}
}

func (p *Program) network(m Machine) []string {
	switch {
	case p.Old:
		return []string{"--tap-name", m.TAP}
	case m.MAC == "":
		return []string{"--net", "tap-name=" + m.TAP}
	default:
		return []string{"--net", "tap-name=" + m.TAP + ",mac=" + m.MAC}
	}
}

// MACFor returns a hardware address for a guest that stays the same for a name: locally administered, unicast.
func MACFor(name string) string {
	sum := sha256.Sum256([]byte("sov guest " + name))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}.String()
}
