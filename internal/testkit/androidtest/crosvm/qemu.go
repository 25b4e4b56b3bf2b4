package crosvm

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/host/qemu"
)

// An emulated is a machine in QEMU that handles crosvm's requests.
type emulated struct{ *qemu.VM }

func (e emulated) quit(ctx context.Context)         { e.Quit(ctx) }
func (e emulated) pause(ctx context.Context) error  { return e.Pause(ctx) }
func (e emulated) resume(ctx context.Context) error { return e.Resume(ctx) }

// onBoard adapts a kernel command line to QEMU's board, whose serial port differs from crosvm's.
var onBoard = strings.NewReplacer("console=ttyS0", "console=ttyAMA0", "earlycon=uart8250,mmio,0x3f8", "earlycon=pl011,"+firstUART)

func (r *running) runQEMU(kernel *os.File, t terminals) (outcome, error) {
	ports, drained, err := t.ports()
	if err != nil {
		return failure, err
	}
	// QEMU opens its kernel by name, for which this process may lack the permission.
	image, err := inMemory(kernel)
	if err != nil {
		return failure, err
	}
	described := qemu.Machine{
		Arch: "arm64", Kernel: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), image.Fd()), Cmdline: onBoard.Replace(r.Cmdline(r.build.Release)),
		MemoryMiB: r.MemoryMiB, CPUs: r.CPUs, Network: qemu.Network{TAP: r.tap, MAC: r.mac}, Ports: ports, Panics: true,
	}
	for i, f := range r.disks {
		described.Disks = append(described.Disks, qemu.Disk{File: f, ReadOnly: r.Disks[i].ReadOnly})
	}
	vm, err := described.Start(context.Background())
	for _, p := range ports {
		p.Socket.Close()
	}
	if err != nil {
		return failure, because(err, "the architecture failed to build the vm")
	}
	go r.control.serve(emulated{vm}, r.Balloon)
	err = vm.Wait()
	drained()
	switch reason := vm.ShutdownReason(); {
	case reason == "guest-shutdown":
		r.log.say("INFO", "crosvm::crosvm::sys::linux", "vcpu requested shutdown")
		return stop, nil
	case reason == "host-qmp-quit":
		return stop, nil
	case vm.Panicked() && reason == "guest-reset":
		r.log.say("INFO", "crosvm::crosvm::sys::linux", "Guest reported panic [Code: 1]")
		return guestPanic, nil
	case reason == "guest-reset":
		r.log.say("INFO", "crosvm::crosvm::sys::linux", "vcpu requested reset")
		return reset, nil
	}
	r.log.say("ERROR", "crosvm::crosvm::sys::linux", fmt.Sprintf("vcpu crashed: %v", err))
	return crash, nil
}

// inMemory copies a file to an unnamed file in memory.
func inMemory(f *os.File) (*os.File, error) {
	fd, err := unix.MemfdCreate(f.Name(), unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	image := os.NewFile(uintptr(fd), f.Name())
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	_, err = io.Copy(image, f)
	return image, err
}
