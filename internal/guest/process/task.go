//go:build linux

package process

import (
	"bufio"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Task is a running command.
type Task struct {
	*Process
	line    func(string)
	cgroup  *cgroup
	out     *os.File      // the pipe with its output
	outDone chan struct{} // closed when the last writer has closed it
}

// maxLine is the maximum length of a line of output, in bytes; the rest of a longer line becomes
// the next one.
const maxLine = 2048

// readOutput passes t's output on line by line until the last writer has closed it.
func (t *Task) readOutput() {
	defer close(t.outDone)
	r := bufio.NewReaderSize(t.out, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if n := len(line); n > 0 {
			if line[n-1] == '\n' {
				line = line[:n-1]
			}
			if len(line) > 0 { // empty lines are useless in a log of many services
				t.line(string(line))
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return // io.EOF, or closed by CleanUp
		}
	}
}

// KillLimit is how long a killed process may take to end. A process in an uninterruptible wait for
// a broken disk never ends, and must not block the machine.
const KillLimit = 10 * time.Second

// Stop ends t with s, and with SIGKILL after limit. It reports whether t has ended.
func (t *Task) Stop(s syscall.Signal, limit time.Duration) bool {
	t.Signal(s)
	select {
	case <-t.Ended:
		return true
	case <-time.After(limit):
	}
	t.kill()
	select {
	case <-t.Ended:
		return true
	case <-time.After(KillLimit):
		return false
	}
}

// kill kills t and all its descendants.
func (t *Task) kill() {
	t.SignalGroup(unix.SIGKILL)
	t.cgroup.kill()
}

// CleanUp kills the descendants that are still running after t's main process ended, and reads the
// rest of the output.
func (t *Task) CleanUp() {
	t.cgroup.remove(time.Second)
	select {
	case <-t.outDone:
	case <-time.After(time.Second): // without cgroups a descendant may keep the pipe open
		t.out.SetReadDeadline(time.Unix(0, 1))
		<-t.outDone
	}
	t.out.Close()
}
