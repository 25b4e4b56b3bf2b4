package crosvm

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
)

// outcomes maps the ends of a light guest to crosvm's outcomes.
var outcomes = map[lightguest.End]outcome{
	lightguest.Off: stop, lightguest.Reset: reset, lightguest.Crash: crash, lightguest.Panic: guestPanic, lightguest.BarePanic: reset,
	lightguest.Watchdog: watchdog, lightguest.SystemCrash: stop, lightguest.Failed: failure, lightguest.Refused: refused,
}

// says maps ends to crosvm's log messages.
var says = map[lightguest.End]string{
	lightguest.Off: "vcpu requested shutdown", lightguest.Reset: "vcpu requested reset", lightguest.BarePanic: "vcpu requested reset",
	lightguest.Crash: "vcpu crashed", lightguest.Panic: "Guest reported panic [Code: 1]", lightguest.Watchdog: "vcpu stall detected",
	lightguest.SystemCrash: "system crash event on vcpu 0",
}

// A light is a light guest that handles crosvm's requests.
type light struct {
	*lightguest.Guest
	deaf bool // it ignores the request to stop
}

func (l light) quit(context.Context) {
	if !l.deaf {
		l.Cut()
	}
}
func (l light) pause(context.Context) error  { l.Pause(true); return nil }
func (l light) resume(context.Context) error { l.Pause(false); return nil }

// runLight runs a machine whose kernel is a script.
func (r *running) runLight(s lightguest.Script, t terminals) (outcome, error) {
	guest, err := lightguest.Start(s, r.tap, r.mac, r.disks)
	if err != nil {
		return failure, err
	}
	go r.control.serve(light{guest, s.IsDeaf("stop")}, r.Balloon)
	for _, x := range t {
		if x.Hardware == "virtio-console" && x.input != nil {
			go listenTo(guest, x.input)
		}
		if x.Hardware == "serial" && x.output != nil {
			io.WriteString(x.output, s.Early)
		}
	}
	end := guest.Wait()
	if s.Early == "" { // otherwise it ended before it had a console
		io.WriteString(t.console(), lightguest.LastWords(end))
	}
	if text := says[end]; text != "" {
		r.log.say("INFO", "crosvm::crosvm::sys::linux", text)
	}
	if end == lightguest.Failed {
		return failure, because(because(errors.New("the script says so"), "the vm cannot be built"), "the architecture failed to build the vm")
	}
	return outcomes[end], nil
}

// listenTo forwards the input of a port to the guest, line by line.
func listenTo(guest *lightguest.Guest, port io.Reader) {
	for lines := bufio.NewScanner(port); lines.Scan(); {
		guest.Said(lines.Text())
	}
}
