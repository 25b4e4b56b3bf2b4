package crosvm

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
)

// A Process is a crosvm that runs.
type Process struct {
	command *exec.Cmd
	done    chan struct{}
	exit    Exit
}

// Start runs m. What crosvm says goes to output; the guest's console goes to m.Console. The process
// is the caller's child in a process group of its own: a signal of the terminal does not reach it,
// and the SIGKILL that crosvm may send to its group at its end does not reach the caller.
//
// All that crosvm works on is opened here and passed on as descriptors (AOSP's own virtmgr does so
// in each release), which the caller does not keep: a copy would hold crosvm's locks. With a user,
// crosvm runs as that one, without root's rights; an error that wraps ErrConfine says that the
// phone does not let it.
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
	command.ExtraFiles[0].Close() // else the launcher's end would not be seen
	if err != nil && user != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfine, err) // a mount namespace is made with the process
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

// Wait waits for crosvm's end and says how it came.
func (p *Process) Wait() Exit {
	<-p.done
	return p.exit
}

// Kill ends crosvm, and the machine as a power cut would, and waits for it.
func (p *Process) Kill() Exit {
	p.command.Process.Kill() // it may have ended by itself
	return p.Wait()
}

// attributes of the process: a group of its own, and for a user a mount namespace of its own.
func attributes(user *User) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if user != nil {
		a.Cloneflags = syscall.CLONE_NEWNS
	}
	return a
}
