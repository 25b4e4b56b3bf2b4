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

// Restore makes the databases and services' data of a machine that runs what they are in a backup:
// those that are chosen, all or none. progress is called with what the guest says that it does; now
// is the clock.
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
	defer out.CloseWithError(errors.New("nobody reads it any more"))
	events, answers := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		c := device.Command{Stdin: count(out, now, passed), Stdout: answers, Limit: device.NoLimit, Idle: idle}
		err := s.Runner(ctx, c, "restore", name, "--json")
		answers.Close()
		ended <- err
	}()
	did, fault := follow(events, progress)
	events.CloseWithError(fault)
	err := <-ended
	if err == nil {
		err = fault
	}
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", name, err)
	}
	return did, nil
}

// follow reads what the guest says until it is done. What went wrong there is sov-runner's error.
func follow(r io.Reader, progress func(string)) (*backup.Restoration, error) {
	const maxLine = 4 << 20 // bytes
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var did *backup.Restoration
	for lines.Scan() {
		var e backup.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("sov-runner answered what is no JSON: %w", err)
		}
		if e.Progress != "" {
			progress(e.Progress)
		}
		if e.Done != nil {
			did = e.Done
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if did == nil {
		return nil, errors.New("it did not say that it is done")
	}
	return did, nil
}
