//go:build linux

package process

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Reaper starts processes and waits for them, and for every orphan of the machine. No other code
// may call wait: it would race with the Reaper.
type Reaper struct {
	// mu is held while a process is forked and added to children, and while statuses are collected.
	// A process that ends at once is therefore in the map before its status is collected, and a
	// process that is signalled is not reaped yet, so its PID cannot be reused.
	mu       sync.Mutex
	children map[int]*Process
	orphans  int // reaped so far
	ownScore int // oom_score_adj of this process

	spawn func(name string, fn func())
}

// A Process is a child that a Reaper started.
type Process struct {
	PID   int
	Ended <-chan struct{} // closed after the process has ended and is reaped

	reaper  *Reaper
	program string
	ended   chan struct{}      // Ended, for the reaper to close
	status  syscall.WaitStatus // valid after ended
}

// NewReaper starts to reap the children of this process. There can be only one. spawn runs its
// second argument in a goroutine; the first is the goroutine's name.
func NewReaper(spawn func(name string, fn func())) *Reaper {
	r := &Reaper{children: map[int]*Process{}, spawn: spawn}
	signals := make(chan os.Signal, 1) // one pending is enough: collect takes all there are
	signal.Notify(signals, syscall.SIGCHLD)
	spawn("reaper", func() {
		r.collect() // children that have ended already
		for range signals {
			r.collect()
		}
	})
	return r
}

// collect takes the status of every child that has ended.
func (r *Reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 { // ECHILD: no children; 0: none has ended
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

// start runs the program at path. The process inherits oomScoreAdj from PID 1, which sets it for
// the fork, so that it applies from the first instruction.
func (r *Reaper) start(path string, argv []string, attr *syscall.ProcAttr, oomScoreAdj int) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if oomScoreAdj != r.ownScore {
		if err := setOOMScoreAdj(oomScoreAdj); err != nil {
			return nil, err
		}
		defer setOOMScoreAdj(r.ownScore)
	}
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	ended := make(chan struct{})
	p := &Process{PID: pid, Ended: ended, reaper: r, program: argv[0], ended: ended}
	r.children[pid] = p
	return p, nil
}

// Protect exempts this process from the kernel's OOM killer: if PID 1 is killed, the machine stops.
func (r *Reaper) Protect() error {
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

// Orphans returns the number of reaped processes that this Reaper did not start.
func (r *Reaper) Orphans() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.orphans
}

// Signal sends s to p. It does nothing if p has ended.
func (p *Process) Signal(s syscall.Signal) {
	p.signalTarget(p.PID, s)
}

// SignalGroup sends s to p's process group while p is its unreaped leader.
func (p *Process) SignalGroup(s syscall.Signal) {
	p.signalTarget(-p.PID, s)
}

func (p *Process) signalTarget(target int, s syscall.Signal) {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	if p.reaper.children[p.PID] == p {
		syscall.Kill(target, s) // it may be a zombie: ignore the error
	}
}

// Outcome describes how p ended, as in "exit status 1" or "killed by SIGSEGV". p must have ended.
func (p *Process) Outcome() string { return describe(p.status) }

// Err returns an *ExitError unless p ended with exit status 0. p must have ended.
func (p *Process) Err() error {
	if p.status.ExitStatus() != 0 {
		return &ExitError{p.program, p.status}
	}
	return nil
}

// An ExitError is the error for a process that did not end with exit status 0.
type ExitError struct {
	Program string
	Status  syscall.WaitStatus
}

func (e *ExitError) Error() string { return e.Program + ": " + describe(e.Status) }

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "killed by " + signalName(status.Signal())
	}
	return "exit status " + strconv.Itoa(status.ExitStatus())
}

// signalName returns the name of s, such as SIGTERM.
func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return s.String()
}
