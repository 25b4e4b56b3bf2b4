package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sovereign-sql/sov/internal/host/qemu"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
)

// run runs the machine to its end and returns crosvm's status for it.
func run(ctx context.Context, m *machine) (int, error) {
	if script, err := lightguest.Load(m.kernel); script != nil || err != nil {
		return runLight(m, script, err)
	}
	arch, err := architecture(m.kernel)
	if err != nil {
		return statusFailed, err
	}
	console, err := openConsole(m.console)
	if err != nil {
		return statusFailed, err
	}
	defer console.Close()
	begin, err := console.Seek(0, io.SeekEnd)
	if err != nil {
		begin = 0 // no file: nothing of it is read later
	}
	control, err := listen(m.socket)
	if err != nil {
		return statusFailed, err
	}
	defer control.Close()
	described := qemu.Machine{
		Arch: arch, Kernel: m.kernel, Cmdline: strings.Join(append(m.params, "panic=-1"), " "), MemoryMiB: m.mem, CPUs: m.cpus,
		Network: qemu.Network{TAP: m.tap, MAC: m.mac}, Console: console,
	}
	for _, d := range m.disks {
		described.Disks = append(described.Disks, qemu.Disk{Path: d.path, ReadOnly: d.readOnly})
	}
	vm, err := described.Start(ctx)
	if err != nil {
		return statusFailed, err
	}
	go control.serve(vm)
	err = vm.Wait()
	switch reason := vm.ShutdownReason(); {
	case reason == "guest-shutdown" || reason == "host-qmp-quit":
		return statusStopped, nil
	case reason == "guest-panic" || reason == "guest-reset" && panicked(m.console, begin):
		return statusPanic, nil
	case reason == "guest-reset":
		return statusReset, nil
	default:
		return statusCrash, err
	}
}

// runLight runs a machine whose kernel is a script.
func runLight(m *machine, script *lightguest.Script, err error) (int, error) {
	if err != nil {
		return statusFailed, err
	}
	control, err := listen(m.socket)
	if err != nil {
		return statusFailed, err
	}
	defer control.Close()
	var disks []string
	for _, d := range m.disks {
		disks = append(disks, d.path)
	}
	if m.early != "" {
		early, err := openConsole(m.early)
		if err != nil {
			return statusFailed, err
		}
		early.WriteString(script.Early)
		early.Close()
	}
	guest, err := lightguest.Start(*script, m.tap, m.mac, disks)
	if err != nil {
		return statusFailed, err
	}
	go control.serve(guest)
	return guest.Wait(), nil
}

func openConsole(path string) (*os.File, error) {
	if path == "" {
		path = os.DevNull
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
}

// architecture reads whose kernel a file is: the magic of an arm64 Image (Documentation/arch/arm64/booting.rst) or of a
// bzImage (Documentation/arch/x86/boot.rst).
func architecture(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("failed to open kernel image: %w", err)
	}
	defer f.Close()
	header := make([]byte, 0x210)
	if _, err := io.ReadFull(f, header); err != nil {
		return "", fmt.Errorf("failed to load kernel: %w", err)
	}
	switch {
	case string(header[56:60]) == "ARM\x64":
		return "arm64", nil
	case string(header[0x202:0x206]) == "HdrS":
		return "amd64", nil
	}
	return "", errors.New("failed to load kernel: invalid magic number")
}

// panicked tells whether the guest's kernel said on its console, since this machine started, that it panics. The real
// crosvm has a device by which the kernel tells; QEMU only sees the reset that follows.
func panicked(path string, begin int64) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() < begin {
		begin = 0 // the log was rotated meanwhile
	}
	text, _ := io.ReadAll(io.NewSectionReader(f, begin, 64<<20))
	return bytes.Contains(text, []byte("Kernel panic - not syncing"))
}
