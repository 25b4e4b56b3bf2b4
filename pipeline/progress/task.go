package progress

import (
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"time"
)

// A Task reports the progress of a running stage. Its methods may be called by several goroutines.
// On a nil *Task they do nothing.
type Task struct {
	name    string
	tracker *Tracker
	started time.Time

	total, done atomic.Int64
	step        atomic.Pointer[string]

	// For the rate; used by the tracker alone.
	seenDone int64
	seenAt   time.Time
	rate     float64
}

// Total starts a count of n bytes at zero. n is 0 if the number is not known.
func (t *Task) Total(n int64) {
	if t != nil {
		t.done.Store(0)
		t.total.Store(n)
	}
}

// Grow adds n bytes to the total, for stages that learn the total while they run.
func (t *Task) Grow(n int64) {
	if t != nil {
		t.total.Add(n)
	}
}

// Set sets both counts, for stages that count elsewhere.
func (t *Task) Set(done, total int64) {
	if t != nil {
		t.done.Store(done)
		t.total.Store(total)
	}
}

// Add counts n more bytes as done.
func (t *Task) Add(n int64) {
	if t != nil {
		t.done.Add(n)
	}
}

// Step names what the stage is doing now, in a few words ("compile", "pull layer 2 of 3").
func (t *Task) Step(text string) {
	if t != nil {
		t.step.Store(&text)
	}
}

// Interlude is Step for a short interruption. The returned function restores the previous step.
func (t *Task) Interlude(text string) (back func()) {
	if t == nil {
		return func() {}
	}
	before := t.step.Swap(&text)
	return func() { t.step.CompareAndSwap(&text, before) }
}

// Name returns what the task is called.
func (t *Task) Name() string { return t.name }

// Logf shows a line that should stay on the screen.
func (t *Task) Logf(format string, args ...any) {
	if t != nil {
		t.tracker.Report(Event{Type: EventLog, Stage: t.name, Text: fmt.Sprintf(format, args...)})
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

// rateMemory is the time constant of the average that smooths the rate.
const rateMemory = 2 * time.Second

// progress takes a sample and returns the state at now.
func (t *Task) progress(now time.Time) State {
	p := State{Stage: t.name, Done: t.done.Load(), Total: t.total.Load(), Elapsed: now.Sub(t.started)}
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
