package crosvm

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// A Process is a crosvm that runs.
type Process struct {
	command *exec.Cmd
	done    chan struct{}
	exit    Exit
}

// Start runs m. What crosvm says goes to output; the guest's console goes to m.Console. The process is the caller's
// child in a process group of its own, so that a signal of the terminal does not reach it.
func (p *Program) Start(m Machine, output io.Writer) (*Process, error) {
	args, err := p.Args(m)
	if err != nil {
		return nil, err
	}
	command := exec.Command(p.Path, args...)
	command.Env = append(os.Environ(), p.Env...)
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
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
