package pipeline

import (
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// A Task is how a running stage tells what it is doing. Its methods may be
// called by several goroutines, and on a nil *Task, where they do nothing.
type Task struct {
	name    string
	tracker *tracker
	started time.Time

	total, done atomic.Int64
	step        atomic.Pointer[string]
	watched     atomic.Pointer[[2]*atomic.Int64] // done and total in place of the above

	// For the rate; used by the tracker alone.
	seenDone int64
	seenAt   time.Time
	rate     float64
}

// Total begins a count of n bytes at zero. n is 0 if it is not known how many
// there will be.
func (t *Task) Total(n int64) {
	if t != nil {
		t.done.Store(0)
		t.total.Store(n)
	}
}

// Grow adds n bytes to the total, for stages that find out as they go.
func (t *Task) Grow(n int64) {
	if t != nil {
		t.total.Add(n)
	}
}

// follow shows what others count.
func (t *Task) follow(done, total *atomic.Int64) { t.watched.Store(&[2]*atomic.Int64{done, total}) }

// Add counts n more bytes as done.
func (t *Task) Add(n int64) {
	if t != nil {
		t.done.Add(n)
	}
}

// Step names what the stage is doing now, in a few words ("compile", "pull
// layer 2 of 3").
func (t *Task) Step(text string) {
	if t != nil {
		t.step.Store(&text)
	}
}

// interlude is Step for something in between: what it returns puts the step
// of before back.
func (t *Task) interlude(text string) (back func()) {
	if t == nil {
		return func() {}
	}
	before := t.step.Swap(&text)
	return func() { t.step.CompareAndSwap(&text, before) }
}

// Logf shows a line that should stay on the screen.
func (t *Task) Logf(format string, args ...any) {
	if t != nil {
		t.tracker.report(Event{Type: EventLog, Stage: t.name, Text: fmt.Sprintf(format, args...)})
	}
}

// Reader returns a reader that counts what is read from r as done.
func (t *Task) Reader(r io.Reader) io.Reader { return &countingReader{t, r} }

type countingReader struct {
	task *Task
	r    io.Reader
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.task.Add(int64(n))
	return n, err
}

// progressInterval is how often running stages are reported. Reporters that
// want fewer skip some.
const progressInterval = 100 * time.Millisecond

// rateMemory is how long a change of speed takes to show for the most part.
const rateMemory = 2 * time.Second

// A tracker follows running tasks and stamps and passes on events.
type tracker struct {
	clock    Clock
	reporter Reporter

	mu      sync.Mutex
	running []*Task

	stop    func()
	stopped chan struct{}
	quit    chan struct{}
}

// newTracker starts reporting progress. close ends it.
func newTracker(clock Clock, reporter Reporter) *tracker {
	c, stop := clock.Ticker(progressInterval)
	tr := &tracker{clock: clock, reporter: reporter, stop: stop, stopped: make(chan struct{}), quit: make(chan struct{})}
	go tr.tick(c)
	return tr
}

func (tr *tracker) tick(c <-chan time.Time) {
	defer close(tr.stopped)
	for {
		select {
		case <-tr.quit:
			return
		case <-c:
			if running := tr.snapshot(); len(running) > 0 {
				tr.report(Event{Type: EventProgress, Running: running})
			}
		}
	}
}

func (tr *tracker) close() {
	tr.stop()
	close(tr.quit)
	<-tr.stopped
}

// report passes an event on with the time.
func (tr *tracker) report(e Event) {
	e.Time = tr.clock.Now()
	tr.reporter.Report(e)
}

func (tr *tracker) begin(name string) *Task {
	now := tr.clock.Now()
	t := &Task{name: name, tracker: tr, started: now, seenAt: now}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.running = append(tr.running, t)
	return t
}

// end takes a task from the running ones and returns how long it ran.
func (tr *tracker) end(t *Task) time.Duration {
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

func (tr *tracker) snapshot() []Progress {
	now := tr.clock.Now()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	all := make([]Progress, len(tr.running))
	for i, t := range tr.running {
		all[i] = t.progress(now)
	}
	return all
}

// progress takes a sample and returns the state at now.
func (t *Task) progress(now time.Time) Progress {
	p := Progress{Stage: t.name, Done: t.done.Load(), Total: t.total.Load(), Elapsed: now.Sub(t.started)}
	if w := t.watched.Load(); w != nil {
		p.Done, p.Total = w[0].Load(), w[1].Load()
	}
	if s := t.step.Load(); s != nil {
		p.Step = *s
	}
	if dt := now.Sub(t.seenAt); dt > 0 {
		switch latest := float64(p.Done-t.seenDone) / dt.Seconds(); {
		case p.Done < t.seenDone: // a new count
			t.rate = 0
		case t.rate == 0:
			t.rate = latest
		default:
			t.rate += (latest - t.rate) * (1 - math.Exp(-dt.Seconds()/rateMemory.Seconds()))
		}
		t.seenDone, t.seenAt = p.Done, now
	}
	p.Rate = t.rate
	return p
}
