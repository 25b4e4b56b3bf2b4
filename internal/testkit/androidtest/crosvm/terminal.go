package crosvm

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/sovereign-sql/sov/internal/host/qemu"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
)

// A terminal is a port of the guest with its input and output.
type terminal struct {
	crosvmcli.Serial
	output io.Writer // nil: the guest's output is lost
	input  io.Reader // nil: no input
}

type terminals []terminal

// terminals opens the inputs and outputs of the machine's ports: consoles in order of their
// numbers, then serial ports. If no port is the console, serial port 1 is at crosvm's standard
// input and output (arch/src/serial.rs).
func (r *running) terminals() (terminals, error) {
	serials := slices.Clone(r.Serials)
	if !slices.ContainsFunc(serials, func(s crosvmcli.Serial) bool { return s.Console || s.Hardware == "serial" && s.Num == 1 }) {
		serials = append(serials, crosvmcli.Serial{Type: "stdout", Hardware: "serial", Num: 1, Console: true, Stdin: true})
	}
	slices.SortStableFunc(serials, func(a, b crosvmcli.Serial) int {
		if (a.Hardware == "serial") != (b.Hardware == "serial") {
			if a.Hardware == "serial" {
				return 1
			}
			return -1
		}
		return a.Num - b.Num
	})
	var out terminals
	for _, s := range serials {
		t := terminal{Serial: s}
		switch s.Type {
		case "stdout":
			t.output = os.Stdout
		case "file":
			if s.Path == "" {
				return out, because(errors.New("a file path is required"), "failed to create serial devices")
			}
			f, err := appendTo(s.Path)
			if err != nil {
				return out, because(err, "failed to open file %q", s.Path)
			}
			t.output = f
		}
		switch {
		case s.Input != "":
			f, err := open(s.Input, os.O_RDONLY)
			if err != nil {
				return out, because(err, "failed to open file %q", s.Input)
			}
			t.input = f
		case s.Stdin:
			t.input = os.Stdin
		}
		out = append(out, t)
	}
	return out, nil
}

// Close closes the files.
func (t terminals) Close() {
	for _, x := range t {
		if f, ok := x.output.(*os.File); ok && f != os.Stdout {
			f.Close()
		}
	}
}

// console returns the output of hvc0.
func (t terminals) console() io.Writer {
	for _, x := range t {
		if x.Hardware == "virtio-console" && x.output != nil {
			return x.output
		}
	}
	return io.Discard
}

// ports connects the terminals with QEMU. The returned wait waits until all output of the guest has
// been copied.
func (t terminals) ports() (ports []qemu.Port, wait func(), err error) {
	var passing sync.WaitGroup
	serial := false
	for _, x := range t {
		if x.Hardware != "virtio-console" && (serial || x.output == nil && x.input == nil) {
			continue // QEMU's board has one serial port
		}
		serial = serial || x.Hardware != "virtio-console"
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, nil, err
		}
		near, far := os.NewFile(uintptr(fds[0]), "terminal"), os.NewFile(uintptr(fds[1]), "port")
		conn, err := net.FileConn(near)
		near.Close()
		if err != nil {
			return nil, nil, err
		}
		ports = append(ports, qemu.Port{Serial: x.Hardware != "virtio-console", Socket: far})
		output := x.output
		if output == nil {
			output = io.Discard
		}
		passing.Go(func() { io.Copy(output, conn); conn.Close() })
		if x.input != nil {
			go io.Copy(conn, x.input)
		}
	}
	return ports, passing.Wait, nil
}

// firstUART is the address of the serial port of QEMU's board virt (hw/arm/virt.c), a PL011;
// crosvm's is an 8250.
const firstUART = "0x9000000"
