// Package fleet runs sov-runner on one phone or on several at once: it passes on what each says,
// line by line and without anything that a terminal would obey, and turns its complaints into
// errors. Which phones are meant is package device's to say, what sov-runner does is the phone's.
package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/sovereign-sql/sov/internal/host/device"
)

// A Site is a phone, and where to write what happens there.
type Site struct {
	device.Phone
	Out    io.Writer // results
	ErrOut io.Writer // progress and complaints
	AsJSON bool      // results are one JSON object
	Stdin  []byte    // of sov-runner, where a command has none of its own
}

// ForEach does something for several machines on one phone, one after the other, or at once. Each
// line that is written to Out and ErrOut begins with the machine's name. A failure does not keep
// the others from theirs.
func (s *Site) ForEach(names []string, atOnce bool, do func(s *Site, name string) error) error {
	failed := make([]error, len(names))
	var writing sync.Mutex
	var wait sync.WaitGroup
	for i, name := range names {
		one := func() {
			lines := &lineWriter{to: s.Out, prefix: name + ": ", mu: &writing}
			errLines := &lineWriter{to: s.ErrOut, prefix: name + ": ", mu: &writing}
			labelled := *s
			labelled.Out, labelled.ErrOut = lines, errLines
			failed[i] = do(&labelled, name)
			errLines.flush()
			lines.flush()
		}
		if atOnce {
			wait.Go(one)
		} else {
			one()
		}
	}
	wait.Wait()
	return errors.Join(failed...)
}

// An Answer is what came of one of several phones.
type Answer struct {
	Device string          `json:"device"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
	Found  bool            `json:"found,omitempty"` // a check found something
	err    error
}

func newAnswer(device string, out []byte, err error) Answer {
	a := Answer{Device: device, err: err}
	if json.Valid(out) {
		a.Result = out
	}
	if err != nil {
		a.Error = err.Error()
		a.Found = errors.As(err, new(*FoundError))
	}
	return a
}

// Sum returns the error of what was done on several phones, nil if there is none. A failure is
// worse than something found.
func Sum(answers []Answer) error {
	var failed []error
	found := 0
	for _, a := range answers {
		switch {
		case a.Found:
			found++
		case a.err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", a.Device, a.err))
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	if found > 0 {
		return &FoundError{What: fmt.Sprintf("something was found on %d of %d phones", found, len(answers))}
	}
	return nil
}

// A FoundError is a check that worked and found something wrong.
type FoundError struct{ What string }

func (e *FoundError) Error() string { return e.What }

// OnOne does something on one phone. What it writes to out and errOut comes as lines without
// anything that a terminal would obey; JSON is written to out as it is.
func OnOne(ctx context.Context, p device.Phone, out, errOut io.Writer, asJSON bool, do func(context.Context, *Site) error) error {
	lines, errLines := &lineWriter{to: out}, &lineWriter{to: errOut}
	s := &Site{Phone: p, Out: lines, ErrOut: errLines, AsJSON: asJSON}
	if asJSON {
		s.Out = out
	}
	err := do(ctx, s)
	lines.flush()
	errLines.flush()
	return err
}

// OnAll does something on several phones at once and returns their answers in the order of the
// phones. Each line that is written to out and errOut begins with the phone's name; JSON is in the
// answers only. A phone's failure does not keep the others from theirs.
func OnAll(ctx context.Context, phones []device.Phone, out, errOut io.Writer, asJSON bool, do func(context.Context, *Site) error) []Answer {
	answers := make([]Answer, len(phones))
	var writing sync.Mutex
	var wait sync.WaitGroup
	for i, p := range phones {
		wait.Go(func() {
			var object bytes.Buffer
			errLines := &lineWriter{to: errOut, prefix: p.Name() + ": ", mu: &writing}
			lines := &lineWriter{to: out, prefix: p.Name() + ": ", mu: &writing}
			s := &Site{Phone: p, Out: lines, ErrOut: errLines, AsJSON: asJSON}
			if asJSON {
				s.Out = &object
			}
			err := do(ctx, s)
			errLines.flush()
			lines.flush()
			answers[i] = newAnswer(p.Name(), object.Bytes(), err)
		})
	}
	wait.Wait()
	return answers
}
