package crosvm

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
)

// A Process is a running crosvm.
type Process struct {
	command *exec.Cmd
	done    chan struct{}
	exit    Exit
}

// Start runs m. crosvm's output goes to output, the guest's console to m.Console. The process is a
// child of the caller in its own process group: signals of the terminal do not reach it, and the
// SIGKILL that crosvm may send to its group at its end does not reach the caller.
//
// Start opens all files of crosvm and passes them as descriptors, like AOSP's virtmgr in each
// release. It closes its own copies, which would keep crosvm's locks. If user is not nil, crosvm
// runs as that user, without root's rights; the error wraps ErrConfine if the phone does not allow
// it.
func (p *Program) Start(m Machine, user *User, output io.Writer) (*Process, error) {
	files := &inheritance{}
	defer files.close()
	inside, err := files.open(m, user)
	if err != nil {
		return nil, err
	}
	args, err := p.args(inside, files.tap)
	if err != nil {
		return nil, err
	}
	command, failure, err := p.launch(m, user, args, files)
	if err != nil {
		return nil, err
	}
	defer failure.Close()
	command.Stdout, command.Stderr = output, output
	err = command.Start()
	command.ExtraFiles[0].Close() // otherwise the end of the launcher would not be noticed
	if err != nil && user != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfine, err) // clone creates the mount namespace
	}
	if err != nil {
		return nil, fmt.Errorf("start crosvm: %w", err)
	}
	said, err := io.ReadAll(failure)
	if err == nil && len(said) > 0 {
		err = errors.New(string(said))
	}
	if err != nil {
		command.Process.Kill()
		command.Wait()
		if reason, ok := strings.CutPrefix(string(said), confineMark); ok {
			return nil, fmt.Errorf("%w: %s", ErrConfine, reason)
		}
		return nil, fmt.Errorf("start crosvm: %w", err)
	}
	process := &Process{command: command, done: make(chan struct{})}
	go func() {
		process.exit = exitOf(command.Wait())
		close(process.done)
	}()
	return process, nil
}

// PID returns the process ID.
func (p *Process) PID() int { return p.command.Process.Pid }

// Done is closed when crosvm has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for crosvm's end and returns it.
func (p *Process) Wait() Exit {
	<-p.done
	return p.exit
}

// Kill kills crosvm, like a power cut for the machine, and waits for its end.
func (p *Process) Kill() Exit {
	p.command.Process.Kill() // it may have ended already
	return p.Wait()
}

// attributes returns the attributes of the process: a new process group and, for a user, a new
// mount namespace.
func attributes(user *User) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if user != nil {
		a.Cloneflags = syscall.CLONE_NEWNS
	}
	return a
}
