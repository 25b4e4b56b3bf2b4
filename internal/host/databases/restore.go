package databases

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
)

// Restore restores the chosen databases and services of a running machine from a backup, all or
// none. progress is called with the guest's progress messages; now is the clock.
func Restore(ctx context.Context, s *fleet.Site, name string, a *Archive, chosen backup.Choice, now func() time.Time,
	passed Passed, progress func(string)) (*backup.Restoration, error) {
	out, in := io.Pipe()
	go func() {
		stream := backup.NewWriter(in)
		err := a.Send(stream, chosen)
		if err != nil {
			stream.Fail(err.Error())
		}
		in.Close()
	}()
	defer out.CloseWithError(errors.New("the reader is closed"))
	events, answers := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		c := device.Command{Stdin: count(out, now, passed), Stdout: answers, Limit: device.NoLimit, Idle: idle}
		err := s.Runner(ctx, c, "restore", name, "--json")
		answers.Close()
		ended <- err
	}()
	last, fault := follow(events, progress)
	events.CloseWithError(fault)
	err := <-ended
	if err == nil {
		err = fault
	}
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", name, err)
	}
	return last.Done, nil
}

// follow reads the guest's events and returns the last one. Errors in the guest are reported by
// sov-runner.
func follow(r io.Reader, progress func(string)) (last backup.Event, err error) {
	const maxLine = 4 << 20 // bytes
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e backup.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return last, fmt.Errorf("sov-runner's answer is not JSON: %w", err)
		}
		if e.Progress != "" {
			progress(e.Progress)
		}
		if e.Done != nil || e.Upgraded != nil {
			last = e
		}
	}
	if err := lines.Err(); err != nil {
		return last, err
	}
	if last.Done == nil && last.Upgraded == nil {
		return last, errors.New("it did not say that it is done")
	}
	return last, nil
}
