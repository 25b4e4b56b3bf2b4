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
	out     *os.File      // where its output comes from
	outDone chan struct{} // closed when the last writer of it is gone
}

// maxLine bounds a line of output, in bytes; what is longer continues on the next.
const maxLine = 2048

// readOutput hands on t's output line by line until no process can write to it any more.
func (t *Task) readOutput() {
	defer close(t.outDone)
	r := bufio.NewReaderSize(t.out, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if n := len(line); n > 0 {
			if line[n-1] == '\n' {
				line = line[:n-1]
			}
			if len(line) > 0 { // empty ones say nothing in a log of many services
				t.line(string(line))
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return // io.EOF, or closed by CleanUp
		}
	}
}

// KillLimit is how long a killed process may take to end. A process in an uninterruptible wait for
// a broken disk never ends, and must not hold up the machine.
const KillLimit = 10 * time.Second

// Stop ends t: s first, SIGKILL when limit has passed. It reports whether t has ended.
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

// kill ends t and all that it started, at once.
func (t *Task) kill() {
	t.SignalGroup(unix.SIGKILL)
	t.cgroup.kill()
}

// CleanUp removes what t left running after its main process ended, and takes its last output.
func (t *Task) CleanUp() {
	t.cgroup.remove(time.Second)
	select {
	case <-t.outDone:
	case <-time.After(time.Second): // without cgroups a stray may hold the pipe
		t.out.SetReadDeadline(time.Unix(0, 1))
		<-t.outDone
	}
	t.out.Close()
}
