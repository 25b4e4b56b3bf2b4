package main

import (
	"context"

	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/spf13/cobra"
)

func newRollback() *cobra.Command {
	var up upFlags
	var noRestart bool
	return phoneVerb{
		use:   "rollback",
		short: "Go back to the version of a machine that ran before the last push",
		long: `Go back to the version of a machine that is in the phone's other slot, which ran before the last ` + "`sov push`" + `. The data disk is
the same for both. A machine that runs is restarted, and a second rollback goes forward again.`,
		example: "  sov rollback sql",
		flags: func(c *cobra.Command) {
			up.add(c)
			c.Flags().BoolVar(&noRestart, "no-restart", false, "leave a machine that runs as it is until it is restarted")
		},
		do: func(ctx context.Context, s *fleet.Site, name string) error {
			args := up.args()
			if noRestart {
				args = append(args, "--no-restart")
			}
			return show(ctx, s, stopLimit+startLimit+up.timeout, "rollback", name, args...)
		},
	}.command()
}
