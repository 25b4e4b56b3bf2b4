package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/phone/crosvm"
)

// A stopper is a machine that can be asked to end in ways that get rougher.
type stopper interface {
	askGuest(ctx context.Context) error   // through its endpoint
	askConsole() error                    // the guest, without its network
	stopCrosvm(ctx context.Context) error // which does not ask the guest
	kill() error
	wait(ctx context.Context) bool // true: it has ended
}

// How long each way may take. The guest's is a setting: a checkpoint of a busy database takes what
// it takes.
const (
	askTimeout     = 5 * time.Second // for the guest to agree
	consoleTimeout = 30 * time.Second
	stopTimeout    = 10 * time.Second
	killTimeout    = 10 * time.Second
)

// shutDown ends a machine: the guest is asked by its network first, then at its console, then
// crosvm is told to stop, and killed at last. (A power button is ACPI's: crosvm has none on arm64.)
// Each way has a bound, so that the whole takes at most the guest's plus a minute. It returns how
// it ended; the error says that even killing it did not help.
func shutDown(ctx context.Context, m stopper, guest time.Duration, log func(string)) (how string, err error) {
	ways := []struct {
		how      string
		ask      func(context.Context) error
		patience time.Duration
	}{
		{"the guest shut down in order", m.askGuest, guest},
		{"the guest shut down when it was asked at its console", func(context.Context) error { return m.askConsole() }, min(guest, consoleTimeout)},
		{"crosvm stopped it, the guest did not answer", m.stopCrosvm, stopTimeout},
		{"crosvm was killed, nothing else ended it", func(context.Context) error { return m.kill() }, killTimeout},
	}
	for _, way := range ways {
		asking, cancel := context.WithTimeout(ctx, min(askTimeout, max(guest, time.Second)))
		err := way.ask(asking)
		cancel()
		if err != nil {
			if ended(ctx, m) {
				return way.how, nil // it was on its way off, and so did not answer
			}
			log(fmt.Sprintf("shut down: %v: trying the next way", err))
			continue
		}
		waiting, cancel := context.WithTimeout(ctx, way.patience)
		gone := m.wait(waiting)
		cancel()
		if gone {
			return way.how, nil
		}
		log(fmt.Sprintf("shut down: it did not end within %v: trying the next way", way.patience))
	}
	return "", errors.New("shut down: crosvm does not end even when killed: it hangs in the kernel; reboot the phone")
}

// askConsole asks the guest behind a pipe of requests to shut down.
func askConsole(requests string) error { return crosvm.Request(requests, guestapi.ConsoleShutdown) }

// endTime is how long a machine that is about to end may take for it: a guest that is off answers
// no more, a crosvm that was killed has closed the interface, and on a busy phone it is a while
// before its parent hears of it.
const endTime = time.Second

// ended tells whether a machine has ended or is about to.
func ended(ctx context.Context, m stopper) bool {
	moment, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	return m.wait(moment)
}
