//go:build linux

// Package childtest starts programs that end with the test binary, even if Cleanup functions do not
// run, as after a test's timeout. The programs start with default signal handling, independent of
// how the tests were started.
package childtest

import (
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// init lets children receive SIGHUP if this process, started by nohup, ignores it. An ignored
// signal stays ignored in a new program, and a handled signal gets its default (execve(2)). This
// process still ignores SIGHUP.
func init() {
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
}

// Start starts a command after it calls enter, which may move the thread into other namespaces; nil
// does nothing. The kernel kills the process when this process ends. The caller waits for the
// command.
func Start(command *exec.Cmd, enter func() error) error {
	started := make(chan error)
	// The kernel sends the signal when the thread that started the process ends (prctl(2),
	// PR_SET_PDEATHSIG). Each process therefore has a separate thread, which lives until the
	// process has ended.
	go func() {
		runtime.LockOSThread()
		if enter != nil {
			if err := enter(); err != nil {
				started <- err
				return
			}
		}
		if command.SysProcAttr == nil {
			command.SysProcAttr = &syscall.SysProcAttr{}
		}
		command.SysProcAttr.Pdeathsig = syscall.SIGKILL
		if err := command.Start(); err != nil {
			started <- err
			return
		}
		pid := command.Process.Pid
		close(started)
		for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
	}()
	return <-started
}

// WriteScript writes a program for this process or one of its children to run. This process does
// not start children meanwhile: a child would hold the open file until it executes its program, and
// the kernel does not execute a file that is open for writing (ETXTBSY).
func WriteScript(path, text string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, []byte(text), 0o755)
}
