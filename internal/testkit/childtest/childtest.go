//go:build linux

// Package childtest starts programs that end with the test binary, however that ends: Cleanup
// functions are not called when a test exceeds its timeout. The programs start with default signal
// handling, however the tests were started.
package childtest

import (
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// init lets children take SIGHUP where this process, which nohup has started, ignores it: an
// ignored signal stays ignored in a new program, while one that is handled gets its default
// (execve(2)). This process goes on ignoring it.
func init() {
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
}

// Start starts a command as its Start does, after enter, which may move the thread into other
// namespaces; nil does nothing. The kernel kills the process when this one ends. The caller waits
// for the command.
func Start(command *exec.Cmd, enter func() error) error {
	started := make(chan error)
	// The signal comes with the end of the thread that has started the process (prctl(2),
	// PR_SET_PDEATHSIG): one that no other process gets, and that stays until the process has
	// ended.
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

// WriteScript writes a program that this process, or one that it starts, is going to run. Meanwhile
// nothing is started: a child would hold the open file until it runs its own program, and the
// kernel runs no file that a process may still write to (ETXTBSY).
func WriteScript(path, text string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, []byte(text), 0o755)
}
