// Package qemu runs a virtual machine on this computer in QEMU, with the devices that crosvm gives
// it on a phone: virtio disks in a fixed order, one virtio network interface, a virtio console
// (hvc0). It starts QEMU, controls it over QMP (QEMU's machine protocol) and ends it.
//
// QEMU gets no signals from the terminal, is killed with its parent process on Linux, and leaves no
// socket or file behind.
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
	Console   io.Writer // receives the guest's output on hvc0, or on the board's serial port with Firmware; nil discards it. Not with Ports
	Ports     []Port    // in place of Console: consoles hvc0, hvc1, … in this order, and the board's serial port
	Channels  []Channel // virtio-serial ports, in addition to the consoles
	Panics    bool      // add a pvpanic device, see VM.Panicked
	Clock     time.Time // what the guest's clock chip shows at power-on; zero is the present
	KVM       bool      // run on the host's processor instead of emulating one; needs a host of the guest's architecture
}

// A Disk is a raw image attached as a virtio block device.
type Disk struct {
	Path     string
	File     *os.File // in place of Path: the image, opened with the guest's access mode
	ReadOnly bool
}

// A Port is a console of the guest.
type Port struct {
	Serial bool     // the board's own serial port, not a virtio console
	Socket *os.File // an end of a stream socket pair, which the caller closes; the other end is the terminal
}

// A Channel is a virtio-serial port. The guest finds its device, /dev/vportNpM, by its name in
// sysfs.
type Channel struct {
	Name   string
	Socket *os.File // an end of a stream socket pair, which the caller closes
}

// A Network is a subnet with QEMU as its router (user networking, which needs no privileges): the
// listed ports of Guest are reachable on this computer's loopback address. The guest can make no
// outgoing connections unless the network is Open.
//
// With a TAP interface the computer is the router, and with a Stream the program at its other end.
// Of the other fields, only MAC is used then.
type Network struct {
	TAP     *os.File // an open TAP interface with IFF_VNET_HDR; nil: none
	Stream  *os.File // an end of a stream socket pair for the guest's Ethernet frames, which requires QEMU 7.2; nil: none
	Open    bool     // the guest reaches this computer's network and, at Host, its loopback address
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

// A Forward makes a port of the guest reachable at 127.0.0.1. Port 0 selects a free one, which
// VM.Port returns.
type Forward struct {
	Guest uint16
	UDP   bool // not TCP
	Port  uint16
}

// Protocol returns "tcp" or "udp", as in QEMU's options.
func (f Forward) Protocol() string {
	if f.UDP {
		return "udp"
	}
	return "tcp"
}

// Asked returns f without the selected port, for use as a key.
func (f Forward) Asked() Forward {
	f.Port = 0
	return f
}

// A board is a QEMU machine type and its options. For arm64 it is QEMU's generic board with a
// GICv3, for amd64 a PC with PCI Express.
type board struct {
	threads   string // option of the emulator (TCG)
	packet    string // Debian package of the program
	machine   string
	processor string // CPU model to emulate
}

// An emulated processor has every feature of the emulator (max). Of arm64 two are left out, because
// they cost a quarter of a first start: pointer authentication, which is emulated at each call of a
// function, and vectors of up to 2048 bits (SVE).
//
// The processors of an emulated PC share one thread: with a thread each, one may execute an int3
// that the kernel, which patches its code at run time (jump labels), has already removed, and the
// guest's kernel panics (seen once in some fifty boots with QEMU 7.2).
var boards = map[string]board{
	arch.ARM64: {"multi", "qemu-system-arm", "virt,gic-version=3", "max,pauth=off,sve=off"},
	arch.AMD64: {"single", "qemu-system-x86", "q35", "max"},
}

// Program returns the name of the QEMU program for an architecture, and its Debian package.
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

// Start starts the machine and returns once QEMU runs it. Cancelling ctx kills it, as a power cut
// would; for a clean shutdown use PowerButton.
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

// arguments returns QEMU's arguments. The machine starts paused: otherwise it might end before its
// ports or its error could be read. File descriptor 3 is the QMP socket that launch makes; the
// returned files follow it.
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
	// A machine with a given kernel needs no boot ROM.
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
		// Each port has its own bus: a bus announces several ports one after another, while the
		// guest enumerates them.
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
			// By default QEMU first opens writable images read-only, for which it would need a
			// second descriptor.
			path = fmt.Sprintf("/dev/fdset/%d,auto-read-only=off", i)
		}
		// werror=enospc pauses the machine if this computer's disk is full: the guest would take
		// the error for a disk failure.
		drive := fmt.Sprintf("if=none,id=%s,format=raw,discard=unmap,werror=enospc,file=%s", DiskName(i), path)
		if disk.ReadOnly {
			drive += ",readonly=on"
		}
		device := "virtio-blk-pci,drive=" + DiskName(i)
		if m.Firmware != "" && i == 0 {
			device += ",bootindex=0" // otherwise the firmware tries to boot from the network first
		}
		args = append(args, "-drive", drive, "-device", device)
	}
	return args, files
}

// DiskName returns the QEMU name of the disk with an index.
func DiskName(i int) string { return fmt.Sprintf("disk%d", i) }

// firstFile is the descriptor in QEMU's process of the first file passed to it.
const firstFile = 4

func (n Network) argument() string {
	// QEMU requires addresses of DHCP, which this network does not use, and of DNS, which must
	// differ from the guest's. It forwards DNS to the host's resolver.
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

// DNS returns the address of the guest's resolver: the first of the subnet that is neither the
// host's nor the guest's.
func (n Network) DNS() netip.Addr {
	address := n.Subnet.Masked().Addr().Next()
	for address == n.Host || address == n.Guest {
		address = address.Next()
	}
	return address
}

// escape doubles commas, which separate the parts of QEMU options.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }
