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
	// powerPoll is the interval of battery checks: at full load one percent lasts minutes.
	powerPoll = 5 * time.Second
	// defaultBatteryStop is the charge in percent below which a machine is stopped. The rest is
	// enough to shut down and to find a charger.
	defaultBatteryStop = 5
	// batteryMargin is the additional charge in percent for the next start, so that the machine
	// does not start and stop repeatedly.
	batteryMargin = 10
)

// errBatteryLow ends a run because the battery is low.
var errBatteryLow = errors.New("the battery is low")

// wakeLock returns the name of a machine's wake lock.
func wakeLock(machine string) string { return "sov_" + machine }

// stayAwake holds the phone's wake lock according to mode, until letSleep, also between two runs of
// crosvm: if the phone slept in the pause, it would not start the next run.
func (d *Daemon) stayAwake(mode vmspec.Awake) {
	if d.awake != nil && d.awakeMode == mode {
		return
	}
	d.letSleep()
	if mode == vmspec.AwakeNever || !d.phone.Is() {
		return
	}
	d.awakeMode = mode
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	d.awake = func() { cancel(); <-done }
	go func() {
		defer close(done)
		held := d.setWakeLock(mode, mode == vmspec.AwakeAlways || charges(android.Power("/sys")))
		ticker := time.NewTicker(powerPoll)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				if held {
					d.setWakeLock(mode, false)
				}
				d.state.change(func(s *runnerapi.State) { s.Awake = nil })
				return
			case <-ticker.C:
				if hold := charges(android.Power("/sys")); mode == vmspec.AwakeCharging && hold != held {
					held = d.setWakeLock(mode, hold)
				}
			}
		}
	}()
}

// letSleep ends stayAwake.
func (d *Daemon) letSleep() {
	if d.awake != nil {
		d.awake()
		d.awake = nil
	}
}

// setWakeLock acquires or releases the wake lock, records that in the state, and returns whether it
// is held.
func (d *Daemon) setWakeLock(mode vmspec.Awake, hold bool) (held bool) {
	lock := d.phone.WakeUnlock
	if hold {
		lock = d.phone.WakeLock
	}
	fault := ""
	if err := lock(wakeLock(d.Name)); err != nil {
		fault, hold = err.Error(), false
		d.log(fmt.Sprintf("keep the phone awake: %v: the machine is paused while it sleeps", err))
	}
	d.state.change(func(s *runnerapi.State) { s.Awake = &runnerapi.Awake{Mode: string(mode), Held: hold, Fault: fault} })
	return hold
}

// charges reports whether the phone has external power. A phone without a visible battery does.
func charges(p *health.Power) bool { return p == nil || p.Charging }

// batteryLow returns a reason if the battery is below limit, in percent, and not charging, or "" if
// the machine may run.
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

// charge waits, with the machine off, until the battery is charged enough. It returns errAgain if a
// start is requested before that.
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
