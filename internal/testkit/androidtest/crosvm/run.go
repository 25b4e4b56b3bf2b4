package crosvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
)

// A running is a machine and its open files.
type running struct {
	*crosvmcli.Machine
	build   crosvmcli.Build
	log     *logger
	control *control
	disks   []*os.File
	tap     *os.File // nil: no network
	mac     string
}

// run runs the machine to its end.
func (r *running) run() (outcome, error) {
	if r.Name != "" {
		// The name of the main thread is the process's; the kernel keeps 15 bytes.
		if err := os.WriteFile("/proc/self/comm", []byte(r.Name), 0); err != nil {
			return failure, err
		}
	}
	r.record()
	kernel, script, err := r.openKernel()
	if err != nil {
		return failure, err
	}
	defer kernel.Close()
	if r.control, err = listen(r.Socket); err != nil {
		return failure, err
	}
	defer r.control.Close()
	for _, acquire := range []func() error{r.openHypervisor, r.openVsock, r.openDisks, r.openTAP} {
		if err := acquire(); err != nil {
			return failure, err
		}
	}
	terminals, err := r.terminals()
	if err != nil {
		return failure, err
	}
	defer terminals.Close()
	switch {
	case script != nil:
		return r.runLight(*script, terminals)
	case kernel == nil:
		return r.hang()
	}
	return r.runQEMU(kernel, terminals)
}

var descriptor = regexp.MustCompile(`^/proc/self/fd/(\d+)$`)

// open opens a file, or duplicates the descriptor that its path names. A duplicate has the access
// mode with which the other process opened it.
func open(path string, flags int) (*os.File, error) {
	fd := descriptor.FindStringSubmatch(path)
	if fd == nil {
		f, err := os.OpenFile(path, flags, 0o666)
		return f, cutPath(err)
	}
	n, err := strconv.Atoi(fd[1])
	if err != nil {
		return nil, err
	}
	if n, err = unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(n), path), nil
}

// cutPath returns the system's error without the path, like Rust's std::io::Error.
func cutPath(err error) error {
	var e *os.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// openKernel opens the kernel and checks that it is one for arm64
// (Documentation/arch/arm64/booting.rst). Android 13 does not check: the file is then nil, and the
// guest never produces output.
func (r *running) openKernel() (*os.File, *lightguest.Script, error) {
	f, err := open(r.Kernel, os.O_RDONLY)
	if err != nil {
		return nil, nil, because(err, "failed to open kernel image %s", r.Kernel)
	}
	script, err := lightguest.Load(f)
	if script != nil || err != nil {
		return f, script, err
	}
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 56); err == nil && string(magic) == "ARM\x64" {
		if r.build.Light {
			script = new(lightguest.Script)
		}
		return f, script, nil
	}
	f.Close()
	if r.build.Release == crosvmcli.Android13 {
		return nil, nil, nil
	}
	return nil, nil, because(because(errors.New("invalid magic number"), "kernel could not be loaded"), "the architecture failed to build the vm")
}

// nodes lists the hypervisors in the order in which crosvm searches for one.
var nodes = []struct{ kind, device, failure string }{
	{"kvm", "/dev/kvm", "failed to open KVM device /dev/kvm"},
	{"geniezone", "/dev/gzvm", "failed to open GenieZone device"},
	{"gunyah", "/dev/gunyah", "failed to open gunyah device"},
}

// openHypervisor opens the hypervisor's device, and checks that it supports the machine's
// protection.
func (r *running) openHypervisor() error {
	chosen := -1
	for i, n := range nodes {
		if r.Hypervisor == n.kind || r.Hypervisor == "" && chosen < 0 && exists(n.device) && (i == 0 || r.build.Release != crosvmcli.Android13) {
			chosen = i
		}
	}
	switch {
	case chosen < 0 && r.build.Release == crosvmcli.Android13:
		chosen = 0
	case chosen < 0:
		return errors.New("no enabled hypervisor")
	}
	n := nodes[chosen]
	if r.Device != "" {
		n.device = r.Device
	}
	f, err := open(n.device, os.O_RDWR)
	if err != nil {
		return because(err, "%s", n.failure)
	}
	if r.build.RootOnly && os.Geteuid() != 0 {
		f.Close()
		return because(syscall.EPERM, "failed to initialize virtual machine")
	}
	if !r.build.Supports(r.Protection) {
		f.Close()
		return because(syscall.ENODEV, "failed to initialize virtual machine")
	}
	if n.kind == "gunyah" { // Gunyah lends the guest memory, which counts as locked
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
			return err
		}
		if limit.Cur < uint64(r.MemoryMiB)<<20 {
			return because(syscall.ENOMEM, "failed to initialize virtual machine")
		}
	}
	return nil // the device stays open until the end
}

func (r *running) openVsock() error {
	if r.VsockCID == 0 {
		return nil
	}
	if _, err := open("/dev/vhost-vsock", os.O_RDWR); err != nil {
		return because(err, "failed to set up virtual socket device")
	}
	return nil
}

func (r *running) openDisks() error {
	for _, d := range r.Disks {
		r.log.say("INFO", "disk", "Trying to attach block device: "+d.Path)
		flags, lock := os.O_RDWR, unix.LOCK_EX
		if d.ReadOnly {
			flags, lock = os.O_RDONLY, unix.LOCK_SH
		}
		f, err := open(d.Path, flags)
		if err != nil {
			return because(err, "failed to open disk file %q", d.Path)
		}
		if d.Lock {
			err := unix.Flock(int(f.Fd()), lock|unix.LOCK_NB)
			if target, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); r.build.NoMemoryLocks && strings.HasPrefix(target, "/memfd:") {
				err = unix.EACCES
			}
			if err != nil && r.build.Release.AtLeast(crosvmcli.Android15) {
				return because(because(err, "failed to lock file"), "failed to open disk file %q", d.Path)
			} else if err != nil {
				return because(err, "failed to lock disk image")
			}
		}
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return because(err, "failed to open disk file %q", d.Path)
		}
		r.log.say("INFO", "disk", fmt.Sprintf("disk size %d", size))
		r.disks = append(r.disks, f)
	}
	return nil
}

// openTAP opens the machine's TAP interface. If the interface does not exist, crosvm creates it
// where permitted, without an address. The interface disappears with the process
// (net_util/src/sys/linux/tap.rs).
func (r *running) openTAP() error {
	if len(r.Nets) == 0 {
		return nil
	}
	n := r.Nets[0]
	r.mac = n.MAC
	if n.FD >= 0 {
		f, err := open(fmt.Sprintf("/proc/self/fd/%d", n.FD), 0)
		if err != nil {
			return because(err, "failed to open tap device")
		}
		request, err := unix.NewIfreq("")
		if err == nil {
			err = unix.IoctlIfreq(int(f.Fd()), unix.TUNGETIFF, request)
		}
		if err == nil && request.Uint16()&unix.IFF_VNET_HDR == 0 {
			err = syscall.EINVAL
		}
		if err != nil {
			return because(err, "failed to open tap device")
		}
		r.tap = f
		return nil
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return because(because(err, "failed to open /dev/net/tun"), "failed to open tap device")
	}
	request, err := unix.NewIfreq(n.TAP)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return because(err, "failed to open tap device")
	}
	r.tap = os.NewFile(uintptr(fd), n.TAP)
	return nil
}

// hang runs a guest with an invalid kernel: it does nothing until it is stopped.
func (r *running) hang() (outcome, error) {
	h := make(hanging)
	go r.control.serve(h, r.Balloon)
	<-h
	return stop, nil
}

type hanging chan struct{}

func (h hanging) quit(context.Context)         { close(h) }
func (h hanging) pause(context.Context) error  { return nil }
func (h hanging) resume(context.Context) error { return nil }

// recordFile receives a line of JSON for each machine that starts. It exists on simulated phones
// only.
const recordFile = "/calls/crosvm"

// record logs the attributes and permissions of this process.
func (r *running) record() {
	f, err := os.OpenFile(recordFile, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return // not on a simulated phone
	}
	defer f.Close()
	f.Write(append(crosvmcli.NewRecord(r.Cmdline(r.build.Release)).Encode(), '\n'))
}

// terminalMode is the mode of files that crosvm creates for ports.
const terminalMode = 0o644

// appendTo opens a file for a port's output. It creates the file if it does not exist, and never
// truncates it.
func appendTo(path string) (*os.File, error) {
	if descriptor.MatchString(path) {
		return open(path, os.O_WRONLY)
	}
	f, err := os.OpenFile(filepath.Clean(path), os.O_WRONLY|os.O_APPEND|os.O_CREATE, terminalMode)
	return f, cutPath(err)
}
