package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/terminal"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// watchInterval is the time between two queries. Each is a command on the phone, which queries the
// guest.
const watchInterval = 2 * time.Second

func newStatus() *cobra.Command {
	var watch bool
	return orLocal(phoneVerb{
		use:   "status",
		group: eachMachine,
		short: "Print the state of a machine on the phone",
		long: `Print the state of a machine: its phase and the time of its last change, version, processes,
network, services, disk, database and last backup. It changes nothing, and works in every state of
the machine. ` + "`sov test`" + ` checks that the machine works. With --watch, the state is printed repeatedly
until Ctrl-C.

With --local, print the state of the machine that ` + "`sov run`" + ` runs on this computer, as its guest
reports it.`,
		example: "  sov status sql\n  sov status sql --watch\n  sov status sql --all --json\n  sov status sql --local",
		flags: func(c *cobra.Command) {
			c.Flags().BoolVarP(&watch, "watch", "w", false, "print the state every two seconds, until Ctrl-C")
		},
		prepare: func(c *cobra.Command, _ string, _ []string) error {
			if devices, err := c.Flags().GetStringArray("device"); err != nil || watch && (len(devices) > 1 || c.Flags().Changed("all")) {
				return errors.Join(err, usagef("--watch shows one phone: name one with --device"))
			}
			return nil
		},
		do: func(ctx context.Context, s *fleet.Site, name string) error {
			if !watch {
				return show(ctx, s, device.DefaultLimit, "status", name)
			}
			return watchStatus(ctx, s, name, os.Stdout)
		},
	}.command(), statusHere)
}

// watchStatus shows a machine's status until ctx ends, which is not an error. A terminal shows only
// the latest status.
func watchStatus(ctx context.Context, s *fleet.Site, name string, out *os.File) error {
	draws := term.IsTerminal(int(out.Fd())) && !s.AsJSON
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		var text bytes.Buffer
		once := *s
		once.Out = &text
		err := show(ctx, &once, device.DefaultLimit, "status", name)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil && draws {
			_, err = io.WriteString(out, screen(text.String(), out))
		} else if err == nil {
			_, err = io.Copy(s.Out, &text)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// screen returns text, rows of a key and a value, as a full terminal screen. It wraps wide lines
// below their values and replaces the lines that do not fit with their number. Control sequences in
// the text are escaped.
func screen(text string, window *os.File) string {
	const clear, home = "\x1b[2J", "\x1b[H" // ECMA-48, 8.3.39 and 8.3.21
	const keyWidth = 11                     // in sov-runner's status
	columns, rows, err := term.GetSize(int(window.Fd()))
	if err != nil {
		columns, rows = 0, 0
	}
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, progress.Wrap(terminal.Harmless(strings.TrimSuffix(line, "\n")), columns, keyWidth)...)
	}
	if room := rows - 1; room > 1 && len(lines) > room { // the cursor is on the last row
		hidden := len(lines) - room + 1
		lines = append(lines[:room-1], fmt.Sprintf("and %d more lines", hidden))
	}
	return clear + home + strings.Join(lines, "\n") + "\n"
}
