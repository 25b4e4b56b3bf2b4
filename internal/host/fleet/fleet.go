// Package fleet runs sov-runner on one or several phones concurrently. It passes on their output
// line by line, without control characters, and turns their error messages into errors. Package
// device selects the phones.
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

// A Site is a phone with writers for its output.
type Site struct {
	device.Phone
	Out    io.Writer // results
	ErrOut io.Writer // progress and error messages
	AsJSON bool      // the result is one JSON object
	Stdin  []byte    // of sov-runner, for commands without Stdin
}

// ForEach calls do for several machines on one phone, in sequence or concurrently. Each line of Out
// and ErrOut is prefixed with the machine's name. It continues after a failure.
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

// An Answer is the result of one of several phones.
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

// Sum returns one error for the answers of several phones, nil if all succeeded. A failure takes
// precedence over a FoundError.
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

// A FoundError is returned by a check that succeeded and found a problem.
type FoundError struct{ What string }

func (e *FoundError) Error() string { return e.What }

// OnOne calls do for one phone. Output is written to out and errOut as lines without control
// characters; JSON is written to out unchanged.
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

// OnAll calls do for several phones concurrently and returns their answers in the order of phones.
// Each line of out and errOut is prefixed with the phone's name; JSON is only in the answers. It
// continues after a phone's failure.
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
