//go:build linux

package process

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"golang.org/x/sys/unix"
)

// An Attached is a process with its standard streams connected to the caller, through a
// pseudoterminal or pipes, and a cgroup with all its descendants.
type Attached struct {
	*Process
	In  *os.File // the terminal, or a pipe
	Out *os.File // the terminal, or a pipe
	Err *os.File // a pipe; nil with a terminal

	cgroup *cgroup
}

// Attach starts c in a new session. If size is not nil, it gets a terminal of that size. Stdin and
// Line are not used.
func (c Command) Attach(r *Reaper, size *unix.Winsize) (_ *Attached, err error) {
	cred, account, err := Credential(c.User, c.Group)
	if err != nil {
		return nil, err
	}
	a := &Attached{}
	sys := &syscall.SysProcAttr{Setsid: true, Credential: cred}
	var childEnds []*os.File // standard input, output and error
	if size != nil {
		childEnds, err = a.openTerminal(size, int(cred.Uid))
		sys.Setctty = true // on its descriptor 0
	} else {
		childEnds, err = a.openPipes()
	}
	defer func() {
		for _, f := range childEnds {
			f.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	if a.cgroup, err = newCgroup(c.Name); err == nil {
		sys.UseCgroupFD, sys.CgroupFD = true, int(a.cgroup.dir.Fd())
		_ = a.cgroup.limit(guestspec.Limits{Weight: guestspec.OwnWeight}) // so that it can stop a service that uses all CPU time
	} // as with a Task, it also runs without a cgroup
	a.Process, err = r.start(c.Argv[0], c.Argv, &syscall.ProcAttr{
		Dir: c.Dir, Env: c.environment(account), Files: []uintptr{childEnds[0].Fd(), childEnds[1].Fd(), childEnds[2].Fd()}, Sys: sys,
	}, c.OOMScoreAdj)
	if err != nil {
		a.cgroup.remove(0)
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *Attached) openPipes() (childEnds []*os.File, err error) {
	for _, ours := range []**os.File{&a.In, &a.Out, &a.Err} {
		r, w, err := os.Pipe()
		if err != nil {
			a.Close()
			return childEnds, err
		}
		if ours == &a.In {
			r, w = w, r
		}
		*ours, childEnds = r, append(childEnds, w)
	}
	return childEnds, nil
}

// openTerminal makes a pseudoterminal (pty(7)) that belongs to a user.
func (a *Attached) openTerminal(size *unix.Winsize, uid int) (childEnds []*os.File, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make a terminal: %w", err)
			a.Close()
		}
	}()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	a.In, a.Out = master, master
	var number int
	err = control(master, func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		}
		return err
	})
	if err == nil {
		err = a.Resize(size)
	}
	if err != nil {
		return nil, err
	}
	for range 3 {
		f, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			return childEnds, err
		}
		childEnds = append(childEnds, f)
	}
	return childEnds, childEnds[0].Chown(uid, -1)
}

// Resize sets the size of the terminal. The process in its foreground gets SIGWINCH.
func (a *Attached) Resize(size *unix.Winsize) error {
	return control(a.In, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
}

// control calls fn with a file's descriptor without making the file blocking.
func control(f *os.File, fn func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = fn(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// hangUpLimit is how long a process may take to end after SIGHUP. It also limits how long a session
// may delay a shutdown.
const hangUpLimit = 250 * time.Millisecond

// strayLimit is how long a stream may be silent after its process has ended: without cgroups a
// left-over descendant may keep it open.
const strayLimit = time.Second

// Read reads from Out or Err of a. After the process has ended it does not wait for long.
func (a *Attached) Read(f *os.File, p []byte) (int, error) {
	select {
	case <-a.Ended:
		_ = f.SetReadDeadline(time.Now().Add(strayLimit)) // on an error the read is not limited
	default:
	}
	return f.Read(p)
}

// End sends SIGHUP to a, and then kills it and all its descendants. Out and Err then end; a blocked
// read returns soon, even without cgroups.
func (a *Attached) End() {
	a.SignalGroup(unix.SIGHUP)
	select {
	case <-a.Ended:
	case <-time.After(hangUpLimit):
		a.SignalGroup(unix.SIGKILL)
	}
	a.cgroup.remove(time.Second)
	for _, f := range []*os.File{a.Out, a.Err} {
		if f != nil {
			_ = f.SetReadDeadline(time.Now().Add(strayLimit))
		}
	}
}

// Close closes the caller's ends. It may be called more than once, and while they are in use.
func (a *Attached) Close() {
	for _, f := range []*os.File{a.In, a.Out, a.Err} {
		if f != nil {
			f.Close()
		}
	}
}

// Status returns p's exit status as a shell would report it (POSIX, Shell Command Language, 2.8.2).
// p must have ended.
func (p *Process) Status() int {
	if p.status.Signaled() {
		return 128 + int(p.status.Signal())
	}
	return p.status.ExitStatus()
}
