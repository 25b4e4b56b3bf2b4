package install

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/host/push"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// progressEvery is how often the displayed progress is updated.
const progressEvery = 100 * time.Millisecond

// A Progress reports the progress of the push to one phone.
type Progress struct {
	reporter progress.Reporter
	name     string // the phone's
	now      func() time.Time
	begun    time.Time

	mu    sync.Mutex
	shown time.Time
	phase push.Phase
	since time.Time // when phase began
}

// NewProgress starts to report the push to the phone with that name. now is the clock.
func NewProgress(r progress.Reporter, name string, now func() time.Time) *Progress {
	p := &Progress{reporter: r, name: name, now: now, begun: now()}
	r.Report(progress.Event{Time: p.begun, Type: progress.EventStart, Stage: name})
	return p
}

func (p *Progress) show(now time.Time, step string, done, total int64, rate float64) {
	p.shown = now
	p.reporter.Report(progress.Event{Time: now, Type: progress.EventProgress, Running: []progress.State{
		{Stage: p.name, Step: step, Done: done, Total: total, Rate: rate, Elapsed: now.Sub(p.begun)},
	}})
}

// step reports a short step.
func (p *Progress) step(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show(p.now(), text, 0, 0, 0)
}

// phases are the displayed names of the phases.
var phases = map[push.Phase]string{push.Comparing: "compare", push.Sending: "send", push.Verifying: "verify"}

// content reports the progress of the content, with the average rate of the current phase.
func (p *Progress) content(now push.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.now()
	changed := now.Phase != p.phase
	if changed {
		p.phase, p.since = now.Phase, at
	}
	if !changed && at.Sub(p.shown) < progressEvery {
		return
	}
	rate := 0.0
	if passed := at.Sub(p.since); passed > 0 {
		rate = float64(now.Done) / passed.Seconds()
	}
	step := phases[now.Phase]
	if left := now.Total - now.Done; rate >= 1 && left > 0 && at.Sub(p.since) > time.Second {
		step += fmt.Sprintf(", %.0f s left", float64(left)/rate)
	}
	p.show(at, step, now.Done, now.Total, rate)
}

// end reports the result.
func (p *Progress) end(ctx context.Context, err error, r *push.Result) {
	at := p.now()
	e := progress.Event{Time: at, Type: progress.EventBuilt, Stage: p.name, Elapsed: at.Sub(p.begun)}
	switch {
	case ctx.Err() != nil:
		e.Type = progress.EventCancelled
	case err != nil:
		e.Type = progress.EventFailed
	default:
		e.Size = r.Sent
	}
	p.reporter.Report(e)
}
