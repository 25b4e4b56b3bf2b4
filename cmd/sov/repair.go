package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/host/fleet"
)

// repairLimit is longer than the guest takes for a repair.
const repairLimit = guestapi.RepairTime + time.Minute

func newRepair() *cobra.Command {
	var forget bool
	var tailnet string
	return phoneVerb{
		use:   "repair",
		short: "Start a machine's PostgreSQL without wrong settings, or mend its place on the tailnet",
		long: `Restart the PostgreSQL of a machine that runs on the phone without the settings of ALTER SYSTEM that have changed since it was
ready; without all of them, if none have. The settings are kept in a file beside the database's own, whose name is printed
together with theirs. What is right of them is made again with ALTER SYSTEM. A server that does not start is repaired so by
itself after three failures; this is for one that starts and is of no use, and for who does not wait.

--forget removes the files with such settings, after which ` + "`sov status`" + ` and ` + "`sov test`" + ` do not warn of them any more.

--tailnet new lets a machine whose node's state was lost join its tailnet as a new node, by the auth key that it has. Without
it, only an auth key that the machine has not used before does so. --tailnet same takes on the node of a machine whose data
disk was copied from another phone: that one must not run any more, for two machines cannot be one node.`,
		example: "  sov repair sql\n  sov repair sql --forget\n  sov repair sql --tailnet new",
		flags: func(c *cobra.Command) {
			c.Flags().BoolVar(&forget, "forget", false, "remove the files with settings that were put aside")
			c.Flags().StringVar(&tailnet, "tailnet", "", "what the machine is on its tailnet: a `new` node, or the same as on another phone")
			complete(c, "tailnet", "new", "same")
		},
		prepare: func(c *cobra.Command, _ string, _ []string) error {
			if c.Flags().Changed("tailnet") && !slices.Contains([]string{"new", "same"}, tailnet) {
				return usagef("--tailnet %s: must be new or same", tailnet)
			}
			return excludeEachOther(c, [2]string{"forget", "tailnet"})
		},
		note: "this can take a minute",
		do: func(ctx context.Context, s *fleet.Site, name string) error {
			what := guestapi.RepairSettings
			switch {
			case forget:
				what = guestapi.RepairForget
			case tailnet != "":
				what = "tailnet-" + tailnet
			}
			return show(ctx, s, repairLimit, "repair", name, "--what", what)
		},
	}.command()
}
