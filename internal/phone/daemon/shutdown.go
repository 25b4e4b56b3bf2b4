package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/phone/crosvm"
)

// A stopper is a machine with several ways to end it, from clean to forced.
type stopper interface {
	askGuest(ctx context.Context) error   // through its endpoint
	askConsole() error                    // asks the guest without the network
	stopCrosvm(ctx context.Context) error // without the guest
	kill() error
	wait(ctx context.Context) bool // true if it has ended
}

// Timeouts of each way. The guest's is a setting, because a checkpoint of a busy database may take
// long.
const (
	askTimeout     = 5 * time.Second // for the guest to agree
	consoleTimeout = 30 * time.Second
	stopTimeout    = 10 * time.Second
	killTimeout    = 10 * time.Second
)

// shutDown ends a machine. It asks the guest over the network, then at its console, then stops
// crosvm, and finally kills it. (crosvm on arm64 does not have ACPI and its power button.) Each way
// has a timeout; in total it takes at most the guest's timeout plus a minute. It returns the way
// that worked. The error means that even SIGKILL did not help.
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
				return way.how, nil // it was already shutting down and therefore did not answer
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

// askConsole asks the guest to shut down through a pipe of requests.
func askConsole(requests string) error { return crosvm.Request(requests, guestapi.ConsoleShutdown) }

// endTime is how long the exit of an ending machine may take to be noticed: a powered-off guest
// does not answer and a killed crosvm has closed the interface some time before the parent on a
// busy phone gets the exit status.
const endTime = time.Second

// ended reports whether a machine has ended or ends within endTime.
func ended(ctx context.Context, m stopper) bool {
	moment, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	return m.wait(moment)
}
