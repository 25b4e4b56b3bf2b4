package crosvmcli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Machine is the machine that the flags of "run" describe.
type Machine struct {
	Kernel     string
	Params     []string // of the kernel's command line, besides crosvm's own
	MemoryMiB  int
	CPUs       int
	Disks      []Disk // vda, vdb, … in this order
	Nets       []Net
	Serials    []Serial
	Socket     string
	Name       string
	Hypervisor string // "kvm", "gunyah" or "geniezone"; empty: the first available one
	Device     string // of the hypervisor
	Protection string // the flag; empty: none
	Swiotlb    int    // MiB; 0: none
	Balloon    bool
	VsockCID   uint64
	Deprecated []string // flags for which crosvm prints a warning
}

// A Disk is a disk of the machine.
type Disk struct {
	Path           string
	ReadOnly, Lock bool
	Root           bool
}

// A Net is a network card of the machine, on a TAP interface with a name or an open descriptor.
type Net struct {
	TAP string
	FD  int // -1: none
	MAC string
}

// A Serial is a port of the machine.
type Serial struct {
	Type, Hardware    string
	Num               int
	Path, Input       string
	Console, Earlycon bool
	Stdin             bool
}

const (
	defaultMemory  = 256 // MiB
	defaultSwiotlb = 64  // MiB, of a protected machine
)

// protections lists the flags of which a machine may have one.
var protections = []string{"--protected-vm", "--protected-vm-with-firmware", "--protected-vm-without-firmware", "--unprotected-vm-with-firmware"}

// machine builds a machine from flags with well-formed values. It rejects contradictions with
// status 1.
func (r Release) machine(used []use, exists Exists) (*Machine, error) {
	m := &Machine{MemoryMiB: defaultMemory, CPUs: 1, Balloon: true}
	given := map[string]bool{}
	for _, u := range used {
		given[u.Name] = true
		if r.deprecates(u.Flag) {
			m.Deprecated = append(m.Deprecated, u.Name)
		}
		if err := r.apply(m, u, exists); err != nil {
			return nil, err
		}
	}
	if m.Protection != "" && m.Swiotlb == 0 {
		m.Swiotlb = defaultSwiotlb
	}
	return m, r.validate(m, given)
}

func (r Release) apply(m *Machine, u use, exists Exists) error {
	number := func() int { n, _ := strconv.Atoi(u.value); return n } // already checked
	must := func(name string) error {
		if r == Android13 && !exists(name) {
			return failed("invalid value %q: this path does not exist", name)
		}
		return nil
	}
	switch u.Name {
	case "KERNEL":
		m.Kernel = u.value
		return must(u.value)
	case "--params":
		m.Params = append(m.Params, u.value)
	case "--mem":
		m.MemoryMiB = r.size(u, "size")
	case "--cpus":
		m.CPUs = r.size(u, "num-cores")
	case "--block", "--disk", "--rwdisk", "--root", "--rwroot":
		return r.disk(m, u, must)
	case "--tap-name":
		m.Nets = append(m.Nets, Net{TAP: u.value, FD: -1})
	case "--tap-fd":
		m.Nets = append(m.Nets, Net{FD: number()})
	case "--net":
		return r.net(m, u)
	case "--serial":
		return r.serial(m, u)
	case "--socket":
		m.Socket = u.value
		if r == Android13 && exists(u.value) {
			return failed("invalid value %q: this socket path already exists", u.value)
		}
	case "--name":
		m.Name = u.value
	case "--hypervisor":
		parts := hypervisor.FindStringSubmatch(u.value)
		m.Hypervisor, m.Device = parts[1], parts[2]
	case "--kvm-device":
		m.Device = u.value
		return must(u.value)
	case "--swiotlb":
		m.Swiotlb = number()
	case "--no-balloon":
		m.Balloon = false
	case "--cid":
		m.VsockCID = uint64(number())
	case "--vsock":
		k, _ := r.record(u.Value, u.value)
		m.VsockCID, _ = parseInt(k["cid"])
	}
	if slices.Contains(protections, u.Name) {
		if m.Protection != "" {
			return failed("Only one protection mode has to be specified")
		}
		m.Protection = u.Name
	}
	return nil
}

// size returns a number that is given directly or as a key's value.
func (r Release) size(u use, name string) int {
	if r != Android13 {
		k, _ := r.record(u.Value, u.value)
		n, _ := parseInt(k[name])
		return int(n)
	}
	n, _ := strconv.Atoi(u.value)
	return n
}

func (r Release) disk(m *Machine, u use, must func(string) error) error {
	k, err := r.record(u.Value, u.value)
	if err != nil {
		return err
	}
	d := Disk{Path: k["path"], ReadOnly: k["ro"] == "true", Root: k["root"] == "true", Lock: k["lock"] != "false"}
	switch u.Name {
	case "--disk":
		d.ReadOnly = true
	case "--root":
		d.ReadOnly, d.Root = true, true
	case "--rwroot":
		d.Root = true
	}
	if d.Root && slices.ContainsFunc(m.Disks, func(d Disk) bool { return d.Root }) {
		return failed("only one root disk can be specified")
	}
	m.Disks = append(m.Disks, d)
	if r == Android13 && d.Root {
		m.Params = append(m.Params, m.rootParam(len(m.Disks)-1)...)
	}
	return must(d.Path)
}

func (r Release) net(m *Machine, u use) error {
	k, _ := r.record(u.Value, u.value)
	n := Net{TAP: k["tap-name"], FD: -1, MAC: k["mac"]}
	ways := 0
	if n.TAP != "" {
		ways++
	}
	if fd := k["tap-fd"]; fd != "" {
		n.FD, _ = strconv.Atoi(fd)
		ways++
	}
	if k["host-ip"] != "" {
		if k["netmask"] == "" || n.MAC == "" {
			return invalid("Error parsing option '--net' with value '%s': host-ip, netmask and mac belong together", u.value)
		}
		ways++
	}
	if ways != 1 {
		return invalid("Error parsing option '--net' with value '%s': data did not match any variant", u.value)
	}
	m.Nets = append(m.Nets, n)
	return nil
}

func (r Release) serial(m *Machine, u use) error {
	k, _ := r.record(u.Value, u.value)
	s := Serial{Type: k["type"], Hardware: k["hardware"], Num: 1, Path: k["path"], Input: k["input"],
		Console: k["console"] == "true", Earlycon: k["earlycon"] == "true", Stdin: k["stdin"] == "true"}
	if s.Type == "" {
		s.Type = "stdout"
	}
	switch s.Hardware {
	case "":
		s.Hardware = "serial"
	case "legacy-virtio-console":
		s.Hardware = "virtio-console"
	}
	if k["num"] != "" {
		s.Num, _ = strconv.Atoi(k["num"])
	}
	switch {
	case s.Num < 1 || s.Hardware == "serial" && s.Num > 4:
		return failed("invalid serial port number %d", s.Num)
	case s.Earlycon && s.Hardware != "serial":
		return failed("earlycon is only supported on serial hardware")
	case slices.ContainsFunc(m.Serials, func(o Serial) bool { return o.Hardware == s.Hardware && o.Num == s.Num }):
		return failed("serial hardware %s num %d is already used", s.Hardware, s.Num)
	case s.Console && r == Android13 && slices.ContainsFunc(m.Serials, func(o Serial) bool { return o.Console }):
		return failed("A console device has already been set")
	case s.Stdin && slices.ContainsFunc(m.Serials, func(o Serial) bool { return o.Stdin }):
		return failed("Standard input has already been assigned")
	}
	m.Serials = append(m.Serials, s)
	return nil
}

// validate rejects contradictory flags.
func (r Release) validate(m *Machine, given map[string]bool) error {
	hostNet := 0
	for _, name := range []string{"--host-ip", "--netmask", "--mac"} {
		if given[name] {
			hostNet++
		}
	}
	switch {
	case m.Kernel == "" && !given["--bios"] && !given["--restore"]:
		return failed("Executable is not specified")
	case given["--cid"] && given["--vsock"]:
		return failed("`cid` and `vsock` cannot be specified together")
	case given["--kvm-device"] && given["--hypervisor"]:
		return failed("cannot specify both `kvm-device` and `hypervisor`")
	case given["--gdb"] && m.CPUs > 1:
		return failed("`gdb` requires the number of vCPU to be 1")
	case given["--balloon-page-reporting"] && !m.Balloon:
		return failed("'balloon-page-reporting' requires enabled balloon")
	case given["--lock-guest-memory"] && given["--disable-sandbox"]:
		return failed("'lock-guest-memory' and 'disable-sandbox' are mutually exclusive")
	case given["--unmap-guest-memory-on-fork"] && !given["--disable-sandbox"]:
		return failed("'unmap-guest-memory-on-fork' requires 'disable-sandbox'")
	case hostNet != 0 && hostNet != 3:
		return failed("`host-ip`, `netmask` and `mac` must be specified together")
	case m.CPUs < 1:
		return failed("the machine needs a processor")
	}
	return nil
}

// Cmdline returns the kernel's command line that crosvm generates on arm64 (aarch64/src/lib.rs,
// arch/src/serial.rs).
func (m *Machine) Cmdline(r Release) string {
	words := []string{"panic=-1"}
	console := false
	for _, s := range m.Serials {
		if s.Console {
			console = true
			words = append(words, "console="+tty(s))
		}
	}
	if !console {
		words = append(words, "console=ttyS0")
	}
	for _, s := range m.Serials {
		if s.Earlycon {
			words = append(words, fmt.Sprintf("earlycon=uart8250,mmio,0x%x", [...]int{0x3f8, 0x2f8, 0x3e8, 0x2e8}[s.Num-1]))
		}
	}
	words = append(words, m.Params...)
	if i := slices.IndexFunc(m.Disks, func(d Disk) bool { return d.Root }); i >= 0 && r != Android13 {
		words = append(words, m.rootParam(i)...)
	}
	return strings.Join(words, " ")
}

func tty(s Serial) string {
	if s.Hardware == "virtio-console" {
		return "hvc" + strconv.Itoa(s.Num-1)
	}
	return "ttyS" + strconv.Itoa(s.Num-1)
}

func (m *Machine) rootParam(i int) []string {
	mode := "rw"
	if m.Disks[i].ReadOnly {
		mode = "ro"
	}
	return []string{"root=/dev/vd" + string(rune('a'+i)), mode}
}
