//go:build linux

package guest

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
)

// A reaper starts processes and waits for them, and for every orphan that the kernel hands to
// PID 1. Only one place may wait: a second one would race it for the same status.
type reaper struct {
	// mu is held while a process is forked and entered into children, and while statuses are
	// collected: a process that ends at once is in the map before its status is looked for, and
	// one that is signalled is not yet reaped, so its number cannot have passed to another.
	mu       sync.Mutex
	children map[int]*process
	orphans  int // reaped so far
	ownScore int // oom_score_adj of this process

	spawn spawn
}

// A process is a child that a reaper started.
type process struct {
	reaper *reaper
	pid    int
	ended  chan struct{}      // closed once status is there
	status syscall.WaitStatus // valid after ended
}

// newReaper starts to collect the children of this process. There can be only one.
func newReaper(spawn spawn) *reaper {
	r := &reaper{children: map[int]*process{}, spawn: spawn}
	signals := make(chan os.Signal, 1) // one pending is enough: collect takes all there are
	signal.Notify(signals, syscall.SIGCHLD)
	spawn("reaper", func() {
		r.collect() // what ended before
		for range signals {
			r.collect()
		}
	})
	return r
}

// collect takes the status of every child that has ended.
func (r *reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 { // ECHILD: there are none; 0: none has ended
			return
		}
		p, ours := r.children[pid]
		if !ours {
			r.orphans++
			continue
		}
		delete(r.children, pid)
		p.status = status
		close(p.ended)
	}
}

// start runs the program argv[0]. oomScoreAdj becomes the process's own before its first
// instruction, by way of being that of PID 1 at the fork.
func (r *reaper) start(argv []string, attr *syscall.ProcAttr, oomScoreAdj int) (*process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if oomScoreAdj != r.ownScore {
		if err := setOOMScoreAdj(oomScoreAdj); err != nil {
			return nil, err
		}
		defer setOOMScoreAdj(r.ownScore)
	}
	pid, err := syscall.ForkExec(argv[0], argv, attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	p := &process{reaper: r, pid: pid, ended: make(chan struct{})}
	r.children[pid] = p
	return p, nil
}

// protect takes this process out of what the kernel ends when memory runs out: with PID 1 the machine would go.
func (r *reaper) protect() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := setOOMScoreAdj(neverKilled); err != nil {
		return err
	}
	r.ownScore = neverKilled
	return nil
}

// neverKilled is OOM_SCORE_ADJ_MIN (include/uapi/linux/oom.h).
const neverKilled = -1000

func setOOMScoreAdj(n int) error {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(n)), 0); err != nil {
		return fmt.Errorf("set the OOM score of a process to be: %w", err)
	}
	return nil
}

// signal sends s to p; to one that has ended it does nothing.
func (p *process) signal(s syscall.Signal) {
	p.signalTarget(p.pid, s)
}

// signalGroup sends s to p's process group while p is its unreaped leader.
func (p *process) signalGroup(s syscall.Signal) {
	p.signalTarget(-p.pid, s)
}

func (p *process) signalTarget(target int, s syscall.Signal) {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	if p.reaper.children[p.pid] == p {
		syscall.Kill(target, s) // it may be a zombie: that is no error worth a word
	}
}

// orphansReaped is the number of processes reaped that nobody here had started.
func (r *reaper) orphansReaped() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.orphans
}

// describe says how a process ended, as in "exit status 1" or "killed by SIGSEGV".
func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "killed by " + signalName(status.Signal())
	}
	return "exit status " + strconv.Itoa(status.ExitStatus())
}
