package main

import "github.com/spf13/cobra"

func newRollback() *cobra.Command {
	var noRestart bool
	return phoneVerb{
		use:   "rollback",
		short: "Go back to the version of a machine that ran before the last push",
		long: `Go back to the version of a machine that is in the phone's other slot, which ran before the last
` + "`sov push`" + `. The data disk is the same for both. A machine that runs is restarted, and a second
rollback goes forward again.`,
		example: "  sov rollback sql",
		flags: func(c *cobra.Command) {
			c.Flags().BoolVar(&noRestart, "no-restart", false, "leave a machine that runs as it is until it is restarted")
		},
		asks:   "rollback",
		within: stopLimit + startLimit,
		up:     &upFlags{},
		pass:   func() []string { return passIf(noRestart, "--no-restart") },
	}.command()
}
