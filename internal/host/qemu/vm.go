package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// A VM is a running machine.
type VM struct {
	process *os.Process
	monitor *monitor
	ports   map[Forward]uint16
	done    chan struct{}
	err     error  // set before done is closed
	said    string // by QEMU on standard error; set before done is closed
}

// launch runs QEMU with one end of a socket pair as its file descriptor 3, followed by files, and
// does the QMP handshake over the other end.
func launch(ctx context.Context, program string, args []string, console io.Writer, files []*os.File) (*VM, error) {
	ours, theirs, err := SocketPair("qmp")
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	var complaint bytes.Buffer
	command := exec.CommandContext(ctx, program, args...)
	command.Stdout = console
	command.Stderr = &complaint
	command.ExtraFiles = append([]*os.File{theirs}, files...)
	command.SysProcAttr = attributes()

	vm := &VM{done: make(chan struct{}), ports: make(map[Forward]uint16)}
	started := make(chan error, 1)
	go vm.run(command, started, &complaint)
	if err := <-started; err != nil {
		ours.Close()
		return nil, err
	}
	theirs.Close()
	vm.monitor, err = connect(ours)
	if err != nil {
		// If QEMU rejects its arguments, it ends before the greeting: its error output says more
		// than the lost connection.
		command.Process.Kill()
		<-vm.done
		return nil, errors.Join(vm.err, err)
	}
	return vm, nil
}

// run starts the command and waits for it on one thread: Linux sends the parent-death signal when
// the thread that started a child ends, so that thread must live as long as the child.
func (vm *VM) run(command *exec.Cmd, started chan<- error, complaint *bytes.Buffer) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := command.Start(); err != nil {
		started <- err
		return
	}
	vm.process = command.Process
	started <- nil
	err := command.Wait()
	vm.said = strings.TrimSpace(complaint.String())
	if err != nil && vm.said != "" {
		err = fmt.Errorf("%w: %s", err, vm.said)
	}
	vm.err = err
	close(vm.done)
}

// SocketPair returns a connected pair of stream sockets, one end for this process and one for a
// program that it starts, for example QEMU.
func SocketPair(name string) (ours net.Conn, theirs *os.File, err error) {
	// A process started between socketpair and close-on-exec, such as another QEMU, would inherit
	// the sockets, and the other end would not see them closed.
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	file := os.NewFile(uintptr(fds[0]), name)
	theirs = os.NewFile(uintptr(fds[1]), name)
	defer file.Close() // FileConn duplicates the descriptor
	if ours, err = net.FileConn(file); err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// Port returns the port of 127.0.0.1 at which a forwarded port of the guest is reachable.
func (vm *VM) Port(f Forward) uint16 { return vm.ports[f.Asked()] }

// PID returns the process ID of QEMU.
func (vm *VM) PID() int { return vm.process.Pid }

// Done is closed when the machine has ended.
func (vm *VM) Done() <-chan struct{} { return vm.done }

// Wait waits for the machine's end. It returns nil if the guest powered itself off, and an error if
// the machine was reset (also by a kernel panic) or killed, or QEMU failed.
func (vm *VM) Wait() error {
	<-vm.done
	<-vm.monitor.closed
	switch reason := vm.monitor.shutdownReason(); {
	case vm.monitor.isBroken():
		what, _, _ := strings.Cut(vm.said, "\n") // registers follow
		return fmt.Errorf("QEMU cannot go on with the machine: %s: with --kvm, leave that out", what)
	case vm.err != nil:
		return fmt.Errorf("QEMU: %w", vm.err)
	case reason == "guest-reset":
		return errors.New("the guest reset itself: its kernel panicked or its init rebooted; the console log says why")
	case reason == "guest-panic":
		return errors.New("the guest's kernel panicked: the console log says why")
	}
	return nil
}

// ShutdownReason returns why the machine ended, once it has: QEMU's ShutdownCause
// (qapi/run-state.json), such as "guest-shutdown", "guest-reset" or "host-qmp-quit". It is empty if
// QEMU sent none.
func (vm *VM) ShutdownReason() string {
	<-vm.done
	<-vm.monitor.closed
	return vm.monitor.shutdownReason()
}

// Panicked reports whether the guest's kernel has panicked; only for a machine with Panics.
func (vm *VM) Panicked() bool {
	vm.monitor.mu.Lock()
	defer vm.monitor.mu.Unlock()
	return vm.monitor.panicked
}

// Quit ends the machine at once and lets QEMU close its files.
func (vm *VM) Quit(ctx context.Context) error {
	_, err := vm.monitor.execute(ctx, "quit", nil)
	return err
}

// PowerButton presses the machine's power button. The guest decides how it reacts.
func (vm *VM) PowerButton(ctx context.Context) error {
	_, err := vm.monitor.execute(ctx, "system_powerdown", nil)
	return err
}

// Pause stops the guest's processors and clock until Resume.
func (vm *VM) Pause(ctx context.Context) error {
	_, err := vm.monitor.execute(ctx, "stop", nil)
	return err
}

// Resume undoes Pause.
func (vm *VM) Resume(ctx context.Context) error {
	_, err := vm.monitor.execute(ctx, "cont", nil)
	return err
}

// BlockErrors returns the channel of failed disk requests. The machine is paused and the error
// logged even if the channel is not read.
func (vm *VM) BlockErrors() <-chan BlockError { return vm.monitor.blockErrors }

// ResizeDisk resizes a disk of the running machine, by its index in Machine.Disks, and its image to
// size bytes. The guest's kernel is notified.
func (vm *VM) ResizeDisk(ctx context.Context, disk int, size int64) error {
	_, err := vm.monitor.execute(ctx, "block_resize", map[string]any{"device": DiskName(disk), "size": size})
	return err
}

// Kill ends the machine as a power cut would and waits until it is gone.
func (vm *VM) Kill() error {
	if err := vm.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-vm.done
	return nil
}

// forwards queries QEMU for the host ports of the forwarded ones.
func (vm *VM) forwards(network Network) error {
	if len(network.Forward) == 0 || network.TAP != nil || network.Stream != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), greetingTimeout)
	defer cancel()
	answer, err := vm.monitor.human(ctx, "info usernet")
	if err != nil {
		return err
	}
	vm.ports = parseForwards(answer)
	for _, f := range network.Forward {
		if vm.Port(f) == 0 {
			return fmt.Errorf("QEMU does not forward the guest's %s port %d", f.Protocol(), f.Guest)
		}
	}
	return nil
}

// parseForwards reads the table of `info usernet`, whose rows for forwarded ports are
//
//	TCP[HOST_FORWARD]   3   127.0.0.1 39825   192.168.100.2  5432   0   0
func parseForwards(table string) map[Forward]uint16 {
	ports := make(map[Forward]uint16)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[0] != "TCP[HOST_FORWARD]" && fields[0] != "UDP[HOST_FORWARD]" {
			continue
		}
		host, err := strconv.ParseUint(fields[3], 10, 16)
		if err != nil {
			continue
		}
		guest, err := strconv.ParseUint(fields[5], 10, 16)
		if err != nil {
			continue
		}
		ports[Forward{Guest: uint16(guest), UDP: fields[0][:3] == "UDP"}] = uint16(host)
	}
	return ports
}
