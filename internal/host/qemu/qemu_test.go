package qemu

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// halted returns a machine whose kernel does nothing, which is enough for tests of QEMU.
func halted(t *testing.T, arch string) Machine {
	t.Helper()
	if _, err := Find(arch); err != nil {
		t.Skip(err)
	}
	kernel := filepath.Join(t.TempDir(), "kernel,with comma")
	// An endless loop in place of an arm64 Image: `b .`, padded to a page.
	image := make([]byte, 4096)
	copy(image, []byte{0x00, 0x00, 0x00, 0x14})
	if err := os.WriteFile(kernel, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return Machine{
		Arch: arch, Kernel: kernel, Cmdline: "quiet", MemoryMiB: 64, CPUs: 1,
		Disks: []Disk{{Path: kernel, ReadOnly: true}},
		Network: Network{
			Subnet:  netip.MustParsePrefix("192.168.100.0/24"),
			Host:    netip.MustParseAddr("192.168.100.1"),
			Guest:   netip.MustParseAddr("192.168.100.2"),
			Forward: []Forward{{Guest: 5432}, {Guest: 8377}, {Guest: 53, UDP: true}},
		},
	}
}

func TestStartTalkKill(t *testing.T) {
	vm, err := halted(t, "arm64").Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if a, b := vm.Port(Forward{Guest: 5432}), vm.Port(Forward{Guest: 8377}); a == 0 || b == 0 || a == b || vm.Port(Forward{Guest: 53, UDP: true}) == 0 {
		t.Errorf("ports %d and %d: want two different ones", a, b)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := errors.Join(vm.Pause(ctx), vm.Resume(ctx), vm.PowerButton(ctx)); err != nil {
		t.Error(err)
	}
	if err := vm.Kill(); err != nil {
		t.Error(err)
	}
	if err := vm.Wait(); err == nil {
		t.Error("a killed machine passes for one that powered off")
	}
	if err := vm.PowerButton(ctx); err == nil {
		t.Error("a dead machine's button can be pressed")
	}
}

func TestCancelEndsQEMU(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	vm, err := halted(t, "arm64").Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-vm.Done():
	case <-time.After(time.Minute):
		t.Fatal("QEMU outlived its context by a minute")
	}
}

func TestStartReportsQEMUErrors(t *testing.T) {
	machine := halted(t, "arm64")
	machine.Disks[0].Path = filepath.Join(t.TempDir(), "absent.img")
	_, err := machine.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "absent.img") {
		t.Errorf("got %v, want an error that names absent.img", err)
	}
}

func TestDNSAvoidsTheOthers(t *testing.T) {
	network := Network{
		Subnet: netip.MustParsePrefix("10.0.0.0/24"),
		Host:   netip.MustParseAddr("10.0.0.1"),
		Guest:  netip.MustParseAddr("10.0.0.2"),
	}
	if got := network.DNS().String(); got != "10.0.0.3" {
		t.Errorf("DNS at %s, want 10.0.0.3", got)
	}
}

func TestFindUnknownArchitecture(t *testing.T) {
	if _, err := Find("riscv64"); err == nil {
		t.Error("found a machine for riscv64")
	}
}

func TestParseForwards(t *testing.T) {
	table := "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n" +
		"  TCP[HOST_FORWARD]   3       127.0.0.1 39825   192.168.100.2  5432     0     0\r\n" +
		"  UDP[HOST_FORWARD]   3       127.0.0.1 5353    192.168.100.2  53       0     0\r\n" +
		"  TCP[ESTABLISHED]   4       127.0.0.1 39825   192.168.100.2  99     0     0\r\n"
	ports := parseForwards(table)
	if len(ports) != 2 || ports[Forward{Guest: 5432}] != 39825 || ports[Forward{Guest: 53, UDP: true}] != 5353 {
		t.Errorf("got %v, want TCP 5432 at 39825 and UDP 53 at 5353", ports)
	}
}

// TestSandbox: QEMU restricts its system calls (Seccomp in proc_pid_status(5): 2 is a filter). A
// guest's network is closed unless it is opened.
func TestSandbox(t *testing.T) {
	vm, err := halted(t, "arm64").Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Kill()
	if runtime.GOOS == "linux" {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", vm.PID()))
		if err != nil || !strings.Contains(string(status), "\nSeccomp:\t2\n") {
			t.Errorf("%v: %s", err, status)
		}
	}
	network := halted(t, "arm64").Network
	if argument := network.argument(); !strings.Contains(argument, ",restrict=on,") || !strings.Contains(argument, "ipv6=off") {
		t.Error(argument)
	}
	network.Open = true
	if argument := network.argument(); strings.Contains(argument, "restrict") || !strings.Contains(argument, "ipv6=off") {
		t.Error(argument)
	}
	if sandboxed(t.Context(), "false") {
		t.Error("a program that refuses the option is said to be sandboxed")
	}
}

// TestFirmware: the firmware starts the first disk without a kernel. The console is the serial
// port, since a kernel without a command line does not use a virtio console.
func TestFirmware(t *testing.T) {
	args, _ := Machine{Arch: "amd64", Firmware: "OVMF.fd", Disks: []Disk{{Path: "disk.img"}, {Path: "config", ReadOnly: true}}}.arguments()
	line := strings.Join(args, " ")
	for want, times := range map[string]int{" -bios OVMF.fd ": 1, " -serial chardev:console ": 1, "virtconsole": 0, "drive=disk0,bootindex=0": 1, "bootindex": 1, "-kernel": 0, "-append": 0} {
		if strings.Count(line, want) != times {
			t.Errorf("%q is not there %d times: %s", want, times, line)
		}
	}
	if _, err := FindFirmware("mips"); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("UEFI of mips: %v", err)
	}
}
