//go:build linux

package machinebackup

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// maxEvent is the largest event of a step, in bytes.
const maxEvent = 64 << 10

// readyPatience limits the wait for the server of an existing cluster.
const readyPatience = 10 * time.Minute

// Upgrade runs one of the operations of PostgreSQL's step guestspec.StepUpgrade and reports its
// progress. It stops PostgreSQL meanwhile, if necessary, and always starts it again. The end of ctx
// does not interrupt the operation, only the wait for the server.
func (k *Keeper) Upgrade(ctx context.Context, do string, say func(backup.Event)) (*backup.Upgraded, error) {
	spec, err := k.Database()
	if err != nil {
		return nil, err
	}
	if len(spec.Upgrade) == 0 {
		return nil, errors.New("the version of the machine that runs cannot do it")
	}
	if do == guestspec.DoUpgrade && !slices.ContainsFunc(spec.Upgrade, func(arg string) bool { return strings.HasPrefix(arg, "--old-bin=") }) {
		return nil, errors.New("the version of the machine that runs has one PostgreSQL alone: `sov upgrade` brings one that has both")
	}
	resume := func() {}
	if do != guestspec.DoForget {
		say(backup.Event{Progress: "stopping PostgreSQL"})
		if resume, err = k.Supervisor.Pause(ctx, spec.Name); err != nil {
			return nil, err
		}
	}
	did, err := k.upgrade(spec, do, say)
	resume()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	if err := k.Supervisor.Await(ctx, spec.Name); err != nil {
		return nil, fmt.Errorf("it is done, and PostgreSQL is not ready: %w", err)
	}
	return did, nil
}

// upgrade runs the step.
func (k *Keeper) upgrade(spec *guestspec.Service, do string, say func(backup.Event)) (did *backup.Upgraded, err error) {
	p, err := process.Command{
		Argv: append(spec.Upgrade[:len(spec.Upgrade):len(spec.Upgrade)], "--do="+do),
		User: "root", Path: k.Path, Env: spec.Env, Dir: "/",
	}.Stream(k.Reaper, false)
	if err != nil {
		return nil, err
	}
	defer k.endStep(p)
	lines := bufio.NewScanner(p.Out)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e backup.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("the step's answer: %w", err)
		}
		switch {
		case e.Fault != "":
			return nil, errors.New(e.Fault)
		case e.Upgraded != nil:
			return e.Upgraded, nil
		case e.Progress != "":
			say(e)
		}
	}
	return nil, errors.Join(lines.Err(), errors.New("the step has ended without a word"))
}
