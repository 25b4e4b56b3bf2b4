package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/install"
	"github.com/sovereign-sql/sov/stages/guestinit"
)

// repairLimit is longer than the guest's own limit for a repair.
const repairLimit = guestapi.RepairTime + time.Minute

// singleUser is the command of the guest's init that starts PostgreSQL's single-user mode.
var singleUser = []string{guestinit.ProgramPath, "postgres-single"}

func newRepair() *cobra.Command {
	var forget, single bool
	var tailnet string
	var command *cobra.Command // the running command
	return phoneVerb{
		use:   "repair",
		short: "Start a machine's PostgreSQL without wrong settings, or repair its tailnet node",
		long: `Restart PostgreSQL without the settings of ALTER SYSTEM that have changed since it was last ready,
or without all of them if none have changed. These settings are kept in a file beside the databases,
and sov prints the file's name and the settings; set the right ones again with ALTER SYSTEM. A
server that does not start is repaired in this way automatically after three failures. Use this
command for a server that starts but does not work, or to avoid waiting for the failures.

--single-user stops the server and opens PostgreSQL's single-user mode on this terminal, or for SQL
from the standard input. It is for a superuser that may no longer log in, and for damaged system
indexes. Each line is a statement; Ctrl-D ends the mode, and the server starts again. The recipe
must allow shells (vm.shell).

--forget removes these files, and ` + "`sov status`" + ` and ` + "`sov test`" + ` no longer warn of them.

--tailnet new lets a machine that has lost its node's state join its tailnet as a new node with its
present auth key. Without this flag, it joins only with an auth key that it has not used before. If
two machines run as one node, it makes this machine another node: it keeps the old state in a file
and does not log out. If the secret tailscale-api has an API access token, sov removes the lost node
from the tailnet.
--tailnet same is for a machine whose data disk was copied from another phone: it takes over the
node of that machine, which must not run any more.`,
		example: "  sov repair sql\n  sov repair sql --forget\n  sov repair sql --tailnet new\n  echo 'ALTER ROLE postgres LOGIN' | sov repair sql --single-user",
		flags: func(c *cobra.Command) {
			c.Flags().BoolVar(&single, "single-user", false, "open PostgreSQL's single-user mode, while the server is stopped")
			c.Flags().BoolVar(&forget, "forget", false, "remove the files with settings that were put aside")
			c.Flags().StringVar(&tailnet, "tailnet", "", "the machine's tailnet node: `new`, or same: the node of another phone's machine")
			complete(c, "tailnet", "new", "same")
		},
		prepare: func(c *cobra.Command, _ string, _ []string) error {
			command = c
			if devices, err := c.Flags().GetStringArray("device"); single && (err != nil || len(devices) > 1 || c.Flags().Changed("all")) {
				return usagef("--single-user is for one machine: name one phone with --device")
			}
			if c.Flags().Changed("tailnet") && !slices.Contains([]string{"new", "same"}, tailnet) {
				return usagef("--tailnet %s: must be new or same", tailnet)
			}
			return excludeEachOther(c, [2]string{"forget", "tailnet"}, [2]string{"single-user", "forget"}, [2]string{"single-user", "tailnet"}, [2]string{"single-user", "json"})
		},
		note: "this can take a minute",
		do: func(ctx context.Context, s *fleet.Site, name string) error {
			what := guestapi.RepairSettings
			switch {
			case single:
				start := session.Start{Command: singleUser, Pause: guestspec.ServicePostgres}
				return interact(ctx, command, func(ctx context.Context, start session.Start, streams session.Streams) (session.Exit, error) {
					return s.Session(ctx, name, start, streams)
				}, start)
			case forget:
				what = guestapi.RepairForget
			case tailnet != "":
				what = "tailnet-" + tailnet
			}
			var old *guestapi.TailnetNode
			if tailnet == "new" {
				now, err := install.Status(ctx, s, name)
				if err != nil {
					return err
				}
				if now.Tailnet != nil {
					old = now.Tailnet.Old
				}
			}
			if err := show(ctx, s, repairLimit, "repair", name, "--what", what); err != nil || old == nil {
				return err
			}
			return removeNode(ctx, s, "repair", name, old)
		},
	}.command()
}
