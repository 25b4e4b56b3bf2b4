//go:build linux

package guest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// A command is a process to be, and a task once it is started.
type command struct {
	argv        []string
	user, group string // group may be empty: the user's own
	path        string // PATH
	env         map[string]string
	dir         string
	stdin       []byte // nil: /dev/null
	name        string // of its cgroup
	oomScoreAdj int
	line        func(string) // gets every line of standard output and error
}

// A task is a running command.
type task struct {
	*process
	command command
	cgroup  *cgroup
	out     *os.File      // where its output comes from
	outDone chan struct{} // closed when the last writer of it is gone
}

// maxLine bounds a line of output, in bytes; what is longer continues on the next.
const maxLine = 2048

// start runs c in a session of its own, so that no signal meant for it reaches anything else.
func (c command) start(r *reaper) (*task, error) {
	cred, account, err := credential(c.user, c.group)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.argv[0], err)
	}
	stdin, err := c.openStdin()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.argv[0], err)
	}
	defer stdin.Close()
	out, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.argv[0], err)
	}
	defer w.Close()
	sys := &syscall.SysProcAttr{Setsid: true, Credential: cred}
	group, err := newCgroup(c.name)
	if err == nil {
		sys.UseCgroupFD, sys.CgroupFD = true, int(group.dir.Fd())
	} // Without cgroups it runs as well; that they cannot be mounted is a problem of the boot's.
	p, err := r.start(c.argv, &syscall.ProcAttr{
		Dir:   c.dir,
		Env:   c.environment(account),
		Files: []uintptr{stdin.Fd(), w.Fd(), w.Fd()},
		Sys:   sys,
	}, c.oomScoreAdj)
	if err != nil {
		group.remove(0)
		out.Close()
		return nil, err
	}
	t := &task{process: p, command: c, cgroup: group, out: out, outDone: make(chan struct{})}
	r.spawn("output of "+c.argv[0], t.readOutput)
	return t, nil
}

// openStdin opens what the process reads: /dev/null, or a pipe that carries c.stdin.
func (c command) openStdin() (*os.File, error) {
	if c.stdin == nil {
		return os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		w.Write(c.stdin) // a process that does not read it to the end is free to
		w.Close()
	}()
	return r, nil
}

func (c command) environment(u *user.User) []string {
	env := []string{
		"PATH=" + c.path, "HOME=" + u.HomeDir, "USER=" + u.Username, "LOGNAME=" + u.Username, "SHELL=/bin/sh",
	}
	for name, value := range c.env {
		env = append(env, name+"="+value) // execve keeps the order; the last of a name wins in libc and Go alike
	}
	return env
}

// credential looks a user and a group up in the image's /etc/passwd and /etc/group.
func credential(name, group string) (*syscall.Credential, *user.User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: does the recipe name it?", err)
	}
	gid := u.Gid
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: does the recipe name it?", err)
		}
		gid = g.Gid
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, nil, fmt.Errorf("list the groups of %s: %w", name, err)
	}
	numbers := make([]uint32, 0, len(ids)+2)
	for _, s := range append([]string{u.Uid, gid}, ids...) {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return nil, nil, fmt.Errorf("user %s: %w", name, err)
		}
		numbers = append(numbers, uint32(n))
	}
	return &syscall.Credential{Uid: numbers[0], Gid: numbers[1], Groups: numbers[2:]}, u, nil
}

// readOutput hands on t's output line by line until nobody can write to it any more.
func (t *task) readOutput() {
	defer close(t.outDone)
	r := bufio.NewReaderSize(t.out, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if n := len(line); n > 0 {
			if line[n-1] == '\n' {
				line = line[:n-1]
			}
			if len(line) > 0 { // empty ones say nothing in a log of many services
				t.command.line(string(line))
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return // io.EOF, or closed by cleanUp
		}
	}
}

// killLimit is how long a killed process may take to go; one in an uninterruptible wait for a
// broken disk stays for ever and must not hold up the machine.
const killLimit = 10 * time.Second

// stop ends t: signal first, SIGKILL when limit has passed. It reports whether t is gone.
func (t *task) stop(s syscall.Signal, limit time.Duration) bool {
	t.signal(s)
	select {
	case <-t.ended:
		return true
	case <-time.After(limit):
	}
	t.kill()
	select {
	case <-t.ended:
		return true
	case <-time.After(killLimit):
		return false
	}
}

// kill ends t and all that it started, at once.
func (t *task) kill() {
	t.signalGroup(unix.SIGKILL)
	t.cgroup.kill()
}

// cleanUp removes what t left running after its main process ended, and takes its last output.
func (t *task) cleanUp() {
	t.cgroup.remove(time.Second)
	select {
	case <-t.outDone:
	case <-time.After(time.Second): // without cgroups a stray may hold the pipe
		t.out.SetReadDeadline(time.Unix(0, 1))
		<-t.outDone
	}
	t.out.Close()
}

// run starts c and waits for its end; when ctx is done first, c is killed. An unsuccessful end is
// an *exitError.
func (c command) run(ctx context.Context, r *reaper) error {
	t, err := c.start(r)
	if err != nil {
		return err
	}
	defer t.cleanUp()
	select {
	case <-t.ended:
	case <-ctx.Done():
		if !t.stop(unix.SIGTERM, 2*time.Second) {
			return fmt.Errorf("%s cannot be killed", c.argv[0])
		}
		return fmt.Errorf("%s was stopped: %w", c.argv[0], context.Cause(ctx))
	}
	if t.status.ExitStatus() != 0 {
		return &exitError{c.argv[0], t.status}
	}
	return nil
}

// An exitError is the end of a process that was not exit status 0.
type exitError struct {
	program string
	status  syscall.WaitStatus
}

func (e *exitError) Error() string { return e.program + ": " + describe(e.status) }

// permanent reports whether err says that trying again cannot help.
func permanent(err error) bool {
	var e *exitError
	return errors.As(err, &e) && e.status.ExitStatus() == guestspec.ExitPermanent
}
