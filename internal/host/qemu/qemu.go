// Package qemu runs a virtual machine on this computer in QEMU, with the devices that crosvm gives
// it on a phone: virtio disks in a fixed order, one virtio network interface, a virtio console
// (hvc0). It starts the program, talks to it over QMP (QEMU's machine protocol) and ends it; what
// runs inside is the caller's business.
//
// QEMU's process belongs to the caller's: it takes no signals from the terminal, dies with its
// parent on Linux, and leaves no socket or file behind.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/arch"
)

// A Machine describes a virtual machine to start.
type Machine struct {
	Arch      string // as Go names it: "arm64" or "amd64"
	Kernel    string // path of an arm64 Image or an amd64 bzImage
	Cmdline   string // the kernel's command line
	Firmware  string // in place of Kernel and Cmdline: path of UEFI, which starts the first disk
	MemoryMiB int
	CPUs      int
	Disks     []Disk    // vda, vdb, … in this order
	Network   Network   // the one interface
	Console   io.Writer // takes what the guest writes to hvc0, or with Firmware to the board's serial port; nil discards it. Not with Ports
	Ports     []Port    // in place of Console: consoles hvc0, hvc1, … in this order, and the board's serial port
	Channels  []Channel // devices of the guest that are streams to this computer
	Panics    bool      // the guest has a device by which its kernel says that it panics, see VM.Panicked
	Clock     time.Time // what the guest's clock chip shows at power-on; zero is the present
	KVM       bool      // run on the host's processor instead of emulating one; needs a host of the guest's architecture
}

// A Disk is a raw image attached as a virtio block device.
type Disk struct {
	Path     string
	File     *os.File // in place of Path: the image, open for what the guest may do
	ReadOnly bool
}

// A Port is a console of the guest.
type Port struct {
	Serial bool     // the board's own serial port, not a virtio console
	Socket *os.File // an end of a stream socket pair, which the caller closes; the other end is the terminal
}

// A Channel is a virtio-serial port: the guest finds its device, /dev/vportNpM, by the name that
// sysfs shows of it.
type Channel struct {
	Name   string
	Socket *os.File // an end of a stream socket pair, which the caller closes
}

// A Network is a subnet that QEMU itself plays the router of (no privilege needed): the listed
// ports of Guest are reachable on this computer's loopback address. The guest reaches nothing,
// unless the network is Open.
//
// With a TAP interface the computer itself is the router, and with a Stream the program at its
// other end. The rest of a Network, but for MAC, is not looked at then.
type Network struct {
	TAP     *os.File // an open TAP interface with IFF_VNET_HDR; nil: none
	Stream  *os.File // an end of a stream socket pair that carries the guest's frames, for which QEMU 7.2 is needed; nil: none
	Open    bool     // through Host the guest reaches this computer's network, and what listens on its loopback address
	Subnet  netip.Prefix
	Host    netip.Addr
	Guest   netip.Addr
	Forward []Forward
	MAC     string // the guest's hardware address; "" leaves it to QEMU
}

func (n Network) hardwareAddress() string {
	if n.MAC == "" {
		return ""
	}
	return ",mac=" + n.MAC
}

// A Forward makes a port of the guest reachable at 127.0.0.1. Port 0 takes a free one; VM.Port
// tells which.
type Forward struct {
	Guest uint16
	UDP   bool // not TCP
	Port  uint16
}

// Protocol is the forwarded one, as QEMU writes it.
func (f Forward) Protocol() string {
	if f.UDP {
		return "udp"
	}
	return "tcp"
}

// Asked is f without the port that was chosen for it: by it, a Forward is found again.
func (f Forward) Asked() Forward {
	f.Port = 0
	return f
}

// board holds what differs between the architectures. The arm64 one is QEMU's generic board with a
// GICv3, the amd64 one a PC with PCI Express.
type board struct {
	threads   string // of the emulator
	packet    string // the Debian package that has the program
	machine   string
	processor string // to emulate: every feature that the emulator knows
}

// pauth-impdef replaces the cipher that signs pointers, of which emulation is slow, by one of
// QEMU's own (docs/system/arm/cpu-features.rst of QEMU).
//
// An emulated PC's processors take turns: with a thread each, one of them may run an int3 that the
// kernel, which patches itself while it runs (jump labels), had put there and taken away again, and
// the guest's kernel panics (seen once in some fifty boots with QEMU 7.2).
var boards = map[string]board{
	arch.ARM64: {"multi", "qemu-system-arm", "virt,gic-version=3", "max,pauth-impdef=on"},
	arch.AMD64: {"single", "qemu-system-x86", "q35", "max"},
}

// Program returns the name of the QEMU program for an architecture, and Debian's package that has
// it.
func Program(name string) (program, packet string, err error) {
	a, err := arch.Get(name)
	if err != nil {
		return "", "", fmt.Errorf("find QEMU: %w", err)
	}
	return "qemu-system-" + a.QEMU, boards[a.Go].packet, nil
}

// Find returns the path of the QEMU program for an architecture, or an error that says how to
// install it.
func Find(name string) (string, error) {
	program, packet, err := Program(name)
	if err != nil {
		return "", err
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%s is not installed: apt-get install %s", program, packet)
	}
	return path, nil
}

// Start starts the machine and returns once QEMU runs it. Cancelling ctx ends it at once, as
// pulling the plug would; PowerButton is the gentle way.
func (m Machine) Start(ctx context.Context) (*VM, error) {
	program, err := Find(m.Arch)
	if err != nil {
		return nil, err
	}
	args, files := m.arguments()
	if sandboxed(ctx, program) {
		args = append(args, "-sandbox", sandbox)
	}
	vm, err := launch(ctx, program, args, m.Console, files)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	if err := vm.forwards(m.Network); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), vm.Kill())
	}
	resuming, cancel := context.WithTimeout(ctx, greetingTimeout)
	defer cancel()
	if err := vm.Resume(resuming); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), vm.Kill())
	}
	return vm, nil
}

// arguments are QEMU's. The machine stands still until it is resumed: one that ends at once would
// be gone before it could be asked for its ports, or tell why. File descriptor 3 is the QMP socket
// that launch makes; the files that are returned follow it.
func (m Machine) arguments() (args []string, files []*os.File) {
	pass := func(f *os.File) int {
		files = append(files, f)
		return firstFile + len(files) - 1
	}
	machine, processor := boards[m.Arch].machine, boards[m.Arch].processor
	accelerator := "tcg,thread=" + boards[m.Arch].threads
	if m.KVM {
		accelerator, processor = "kvm", "host"
	}
	args = []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-S",
		"-machine", machine, "-accel", accelerator, "-cpu", processor,
		"-smp", strconv.Itoa(m.CPUs), "-m", strconv.Itoa(m.MemoryMiB) + "M",
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control",
		"-device", "virtio-rng-pci",
	}
	if m.Firmware != "" {
		args = append(args, "-bios", m.Firmware)
	} else {
		args = append(args, "-kernel", m.Kernel, "-append", m.Cmdline)
	}
	switch {
	case m.Network.TAP != nil:
		args = append(args, "-netdev", fmt.Sprintf("tap,id=net,fd=%d", pass(m.Network.TAP)))
	case m.Network.Stream != nil:
		args = append(args, "-netdev", fmt.Sprintf("stream,id=net,server=off,addr.type=fd,addr.str=%d", pass(m.Network.Stream)))
	default:
		args = append(args, "-netdev", m.Network.argument())
	}
	// The boot ROM is of no use to a machine that is given its kernel.
	args = append(args, "-device", "virtio-net-pci,netdev=net,romfile="+m.Network.hardwareAddress())
	switch {
	case len(m.Ports) > 0:
	case m.Firmware != "":
		args = append(args, "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console")
	default:
		args = append(args, "-chardev", "stdio,id=console,signal=off", "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=console")
	}
	for i, p := range m.Ports {
		args = append(args, "-chardev", fmt.Sprintf("socket,id=port%d,fd=%d", i, pass(p.Socket)))
		if p.Serial {
			args = append(args, "-serial", fmt.Sprintf("chardev:port%d", i))
			continue
		}
		// A bus for each with one port: a bus with more announces its ports one after another,
		// while the guest counts them.
		args = append(args, "-device", fmt.Sprintf("virtio-serial-pci,id=bus%d,max_ports=1", i), "-device", fmt.Sprintf("virtconsole,bus=bus%d.0,chardev=port%d", i, i))
	}
	if len(m.Channels) > 0 {
		args = append(args, "-device", "virtio-serial-pci,id=channels")
	}
	for i, c := range m.Channels {
		args = append(args, "-chardev", fmt.Sprintf("socket,id=channel%d,fd=%d", i, pass(c.Socket)), "-device", fmt.Sprintf("virtserialport,bus=channels.0,chardev=channel%d,name=%s", i, c.Name))
	}
	if m.Panics {
		args = append(args, "-device", "pvpanic-pci", "-action", "panic=none")
	}
	if !m.Clock.IsZero() {
		args = append(args, "-rtc", "base="+m.Clock.UTC().Format("2006-01-02T15:04:05"))
	}
	for i, disk := range m.Disks {
		path := escape(disk.Path)
		if disk.File != nil {
			args = append(args, "-add-fd", fmt.Sprintf("fd=%d,set=%d", pass(disk.File), i))
			// QEMU opens what is to be written read-only at first, if it may, for which it would
			// need a second descriptor.
			path = fmt.Sprintf("/dev/fdset/%d,auto-read-only=off", i)
		}
		// A guest that was told of a full disk would take it for a broken one.
		drive := fmt.Sprintf("if=none,id=%s,format=raw,discard=unmap,werror=enospc,file=%s", DiskName(i), path)
		if disk.ReadOnly {
			drive += ",readonly=on"
		}
		device := "virtio-blk-pci,drive=" + DiskName(i)
		if m.Firmware != "" && i == 0 {
			device += ",bootindex=0" // or firmware would ask the network first
		}
		args = append(args, "-drive", drive, "-device", device)
	}
	return args, files
}

// DiskName is what QEMU calls a disk, by its place.
func DiskName(i int) string { return fmt.Sprintf("disk%d", i) }

// firstFile is the descriptor in QEMU's process of the first file that is passed on.
const firstFile = 4

func (n Network) argument() string {
	// QEMU insists on addresses for services that this network does not use (DHCP) or that must not
	// collide with the guest's (DNS, which it forwards to the host's resolver).
	var b strings.Builder
	fmt.Fprintf(&b, "user,id=net,ipv6=off,net=%s,host=%s,dns=%s,dhcpstart=%s", n.Subnet.Masked(), n.Host, n.DNS(), n.DNS().Next())
	if !n.Open {
		b.WriteString(",restrict=on")
	}
	for _, f := range n.Forward {
		fmt.Fprintf(&b, ",hostfwd=%s:127.0.0.1:%d-%s:%d", f.Protocol(), f.Port, n.Guest, f.Guest)
	}
	return b.String()
}

// DNS is the address at which the guest finds a resolver: the first of the subnet that is neither
// the host's nor the guest's.
func (n Network) DNS() netip.Addr {
	address := n.Subnet.Masked().Addr().Next()
	for address == n.Host || address == n.Guest {
		address = address.Next()
	}
	return address
}

// escape doubles commas, which separate the parts of a QEMU option.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }
