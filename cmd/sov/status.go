package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
)

// watchInterval is the pause between two looks: each is a command on the phone, which asks the guest.
const watchInterval = 2 * time.Second

func newStatus() *cobra.Command {
	var watch bool
	return orLocal(phoneVerb{
		use:   "status",
		short: "Say how a machine on the phone is",
		long: `Say how a machine is: its phase and since when, the version that runs, its processes, its network, the services in it, its
disk, database and last backup. It changes nothing and always answers, whatever state the machine is in; whether all is
well is what ` + "`sov test`" + ` says. With --watch it is shown again and again until Ctrl-C.

With --local it is the machine that ` + "`sov run`" + ` runs on this computer: what its guest says, once.`,
		example: "  sov status sql\n  sov status sql --watch\n  sov status sql --all --json\n  sov status sql --local",
		flags: func(c *cobra.Command) {
			c.Flags().BoolVarP(&watch, "watch", "w", false, "show it again every two seconds, until Ctrl-C")
		},
		do: func(ctx context.Context, s *fleet.Site, name string) error {
			if !watch {
				return show(ctx, s, device.DefaultLimit, "status", name)
			}
			return watchStatus(ctx, s, name, os.Stdout)
		},
	}.command(), statusHere)
}

// watchStatus shows a machine's status until ctx ends, which is not an error. A terminal is drawn anew each time.
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
		if err != nil {
			return err
		}
		if draws {
			const home, clear = "\x1b[H", "\x1b[2J" // ECMA-48, 8.3.21 and 8.3.39
			fmt.Fprint(out, clear+home)
		}
		if _, err := io.Copy(s.Out, &text); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
