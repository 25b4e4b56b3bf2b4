package daemon

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/phone/crosvm"
)

// crosvmsOf returns the crosvm processes of a machine. It finds them by their arguments, even if
// the daemon died before it recorded one.
func crosvmsOf(proc string, vm phonepath.VM) ([]int, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(proc, e.Name(), "cmdline"))
		if err != nil {
			continue // it has ended meanwhile
		}
		if runsMachine(text, sockets(vm)...) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// sockets returns the possible paths of a machine's control socket in crosvm's arguments.
func sockets(vm phonepath.VM) []string {
	return []string{vm.Socket(), crosvm.Inside(vm.Socket()), vm.OldSocket()}
}

// runsMachine reports whether a command line (/proc/PID/cmdline) is that of a crosvm with one of
// these control sockets: any program name and arguments, the word run, and after it "--socket" with
// one of the paths.
func runsMachine(cmdline []byte, sockets ...string) bool {
	args := strings.Split(string(cmdline), "\x00")
	run := slices.Index(args[1:], "run")
	if run < 0 {
		return false
	}
	for i, arg := range args[run+1:] {
		if slices.Contains(sockets, arg) && args[run+i] == "--socket" {
			return true
		}
	}
	return false
}

// lifeOf returns a process's start time in the kernel's ticks, which distinguishes it from a later
// process with the same PID. It is "" after the process has ended and closed its files, reaped or
// not; its arguments disappear before that.
func lifeOf(proc string, pid int) string {
	text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	// proc(5): pid (comm) state ppid …; state is the 3rd, starttime the 22nd; a name may hold
	// spaces and parentheses.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const state, starttime = 0, 22 - 3
	if len(fields) <= starttime || bytes.ContainsAny(fields[state], "ZXx") {
		return ""
	}
	return string(fields[starttime])
}

func (o *orphan) kill() error {
	if err := unix.Kill(o.pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill crosvm, process %d: %w", o.pid, err)
	}
	return nil
}

// wait returns true when the process has ended, and false when ctx ends first.
func (o *orphan) wait(ctx context.Context) bool {
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for o.life != "" && lifeOf(o.proc, o.pid) == o.life {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}
