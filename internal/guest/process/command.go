//go:build linux

package process

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// A Command describes a process to start.
type Command struct {
	Argv        []string
	User, Group string // Group may be empty: the user's own
	Path        string // PATH
	Env         map[string]string
	Dir         string
	Stdin       []byte   // nil: /dev/null
	In          *os.File // in place of Stdin; the caller closes it
	Out         *os.File // standard output; nil: Line receives it
	Name        string   // of its cgroup
	OOMScoreAdj int
	Confine     *Confinement     // nil: it is not confined
	Limits      guestspec.Limits // of all its processes; Confine has the limit of files
	Line        func(string)     // receives every line of standard output and error
}

// Start runs c in a new session, so that signals to its process group do not reach other processes.
func (c Command) Start(r *Reaper) (*Task, error) {
	cred, account, err := Credential(c.User, c.Group)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Argv[0], err)
	}
	stdin, err := c.openStdin()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Argv[0], err)
	}
	defer stdin.Close()
	out, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Argv[0], err)
	}
	defer w.Close()
	in, stdout := stdin.Fd(), w.Fd()
	if c.In != nil {
		in = c.In.Fd()
	}
	if c.Out != nil {
		stdout = c.Out.Fd()
	}
	sys := &syscall.SysProcAttr{Setsid: true, Credential: cred}
	group, err := newCgroup(c.Name)
	if err == nil {
		sys.UseCgroupFD, sys.CgroupFD = true, int(group.dir.Fd())
		err = group.limit(c.Limits)
	} else {
		err = nil // it also runs without a cgroup; the boot reports that cgroups cannot be mounted
	}
	attr := &syscall.ProcAttr{
		Dir:   c.Dir,
		Env:   c.environment(account),
		Files: []uintptr{in, stdout, w.Fd()},
		Sys:   sys,
	}
	var p *Process
	switch {
	case err != nil:
		err = fmt.Errorf("start %s: %w", c.Argv[0], err)
	case c.Confine != nil:
		p, err = c.Confine.start(r, c.Argv, attr, c.OOMScoreAdj)
	default:
		p, err = r.start(c.Argv[0], c.Argv, attr, c.OOMScoreAdj)
	}
	if err != nil {
		group.remove(0)
		out.Close()
		return nil, err
	}
	t := &Task{Process: p, line: c.Line, cgroup: group, out: out, outDone: make(chan struct{})}
	r.spawn("output of "+c.Argv[0], t.readOutput)
	return t, nil
}

// openStdin opens the process's standard input: /dev/null, or a pipe with c.Stdin.
func (c Command) openStdin() (*os.File, error) {
	if c.Stdin == nil {
		return os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		w.Write(c.Stdin) // the process need not read it to the end
		w.Close()
	}()
	return r, nil
}

func (c Command) environment(u *user.User) []string {
	env := []string{
		"PATH=" + c.Path, "HOME=" + u.HomeDir, "USER=" + u.Username, "LOGNAME=" + u.Username, "SHELL=/bin/sh",
	}
	for name, value := range c.Env {
		// execve keeps the order, and the last value of a name wins in libc and in Go.
		env = append(env, name+"="+value)
	}
	return env
}

// Run starts c and waits for its end. It kills c when ctx is done. The error for an unsuccessful
// end is an *ExitError.
func (c Command) Run(ctx context.Context, r *Reaper) error {
	t, err := c.Start(r)
	if err != nil {
		return err
	}
	defer t.CleanUp()
	select {
	case <-t.Ended:
	case <-ctx.Done():
		if !t.Stop(unix.SIGTERM, 2*time.Second) {
			return fmt.Errorf("%s cannot be killed", c.Argv[0])
		}
		return fmt.Errorf("%s was stopped: %w", c.Argv[0], context.Cause(ctx))
	}
	return t.Err()
}
