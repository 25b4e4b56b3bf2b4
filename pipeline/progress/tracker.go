package progress

import (
	"sync"
	"time"
)

// progressInterval is how often running stages are reported. Reporters that want fewer skip some.
const progressInterval = 100 * time.Millisecond

// A Tracker follows running tasks: it reports their progress at short intervals, and passes events
// on with the time.
type Tracker struct {
	clock    Clock
	reporter Reporter

	mu      sync.Mutex
	running []*Task

	stop    func()
	stopped chan struct{}
	quit    chan struct{}
}

// NewTracker starts to report progress. Close ends it.
func NewTracker(clock Clock, reporter Reporter) *Tracker {
	c, stop := clock.Ticker(progressInterval)
	tr := &Tracker{clock: clock, reporter: reporter, stop: stop, stopped: make(chan struct{}), quit: make(chan struct{})}
	go tr.tick(c)
	return tr
}

func (tr *Tracker) tick(c <-chan time.Time) {
	defer close(tr.stopped)
	for {
		select {
		case <-tr.quit:
			return
		case <-c:
			if running := tr.snapshot(); len(running) > 0 {
				tr.Report(Event{Type: EventProgress, Running: running})
			}
		}
	}
}

// Close ends the reports.
func (tr *Tracker) Close() {
	tr.stop()
	close(tr.quit)
	<-tr.stopped
}

// Report passes an event on with the time.
func (tr *Tracker) Report(e Event) {
	e.Time = tr.clock.Now()
	tr.reporter.Report(e)
}

// Begin returns the task that is called name and runs from now on.
func (tr *Tracker) Begin(name string) *Task {
	now := tr.clock.Now()
	t := &Task{name: name, tracker: tr, started: now, seenAt: now}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.running = append(tr.running, t)
	return t
}

// End takes a task from the running ones and returns how long it ran.
func (tr *Tracker) End(t *Task) time.Duration {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for i, r := range tr.running {
		if r == t {
			tr.running = append(tr.running[:i], tr.running[i+1:]...)
			break
		}
	}
	return tr.clock.Now().Sub(t.started)
}

func (tr *Tracker) snapshot() []State {
	now := tr.clock.Now()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	all := make([]State, len(tr.running))
	for i, t := range tr.running {
		all[i] = t.progress(now)
	}
	return all
}
