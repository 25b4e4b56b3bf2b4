package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/android"
)

const (
	// powerPoll is how often the battery is looked at: a phone at full load takes minutes for one percent.
	powerPoll = 5 * time.Second
	// defaultBatteryStop is the charge in percent below which a machine is stopped: enough to shut down, and to find a charger.
	defaultBatteryStop = 5
	// batteryMargin is how much more the battery must hold before the machine starts again, so that it does not go on and off.
	batteryMargin = 10
)

// errBatteryLow ends a run because the battery is about to be empty.
var errBatteryLow = errors.New("the battery is low")

// wakeLock is the name of a machine's wake lock.
func wakeLock(machine string) string { return "sov_" + machine }

// stayAwake holds the phone's wake lock while the machine runs, as its mode says. The function that it returns lets it go.
func (d *Daemon) stayAwake(mode vmspec.Awake) (let func()) {
	if mode == vmspec.AwakeNever || !d.phone.Is() {
		return func() {}
	}
	name := wakeLock(d.Name)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		held := false
		set := func(hold bool) {
			lock := d.phone.WakeUnlock
			if hold {
				lock = d.phone.WakeLock
			}
			fault := ""
			if err := lock(name); err != nil {
				fault = err.Error()
				d.log(fmt.Sprintf("wake lock: %v: the machine stands still while the phone sleeps", err))
				hold = false
			}
			held = hold
			d.state.change(func(s *runnerapi.State) { s.Awake = &runnerapi.Awake{Mode: string(mode), Held: hold, Fault: fault} })
		}
		ticker := time.NewTicker(powerPoll)
		defer ticker.Stop()
		set(mode == vmspec.AwakeAlways || charges(android.Power("/sys")))
		for {
			select {
			case <-ctx.Done():
				if held {
					set(false)
				}
				d.state.change(func(s *runnerapi.State) { s.Awake = nil })
				return
			case <-ticker.C:
				if hold := charges(android.Power("/sys")); mode == vmspec.AwakeCharging && hold != held {
					set(hold)
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

// charges tells whether the phone is on an external supply; a phone that shows no battery is.
func charges(p *health.Power) bool { return p == nil || p.Charging }

// batteryLow says why a machine should not run, "" where it may: the battery holds less than a limit in percent and is not
// being charged.
func batteryLow(p *health.Power, limit int) string {
	if charges(p) || p.Battery >= limit {
		return ""
	}
	return fmt.Sprintf("the battery is at %d %% and is not being charged: it is started again above %d %%", p.Battery, limit+batteryMargin)
}

// watchBattery returns a channel that is closed when the battery is low; ctx ends the watch.
func (d *Daemon) watchBattery(ctx context.Context) <-chan struct{} {
	low := make(chan struct{})
	go func() {
		ticker := time.NewTicker(powerPoll)
		defer ticker.Stop()
		for batteryLow(android.Power("/sys"), d.settings.batteryStop()) == "" {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
		close(low)
	}()
	return low
}

// charge waits, with the machine off, until the battery holds enough. It returns errAgain when somebody asks for a start
// before that.
func (d *Daemon) charge(ctx context.Context, reason string) error {
	d.rest(runnerapi.LowBattery, reason)
	for {
		waiting, cancel := context.WithTimeout(ctx, powerPoll)
		err := d.await(waiting)
		cancel()
		if errors.Is(err, errAgain) || ctx.Err() != nil {
			return err
		}
		if p := android.Power("/sys"); p == nil || p.Battery > d.settings.batteryStop()+batteryMargin {
			d.log("the battery holds enough again")
			return nil
		}
	}
}
