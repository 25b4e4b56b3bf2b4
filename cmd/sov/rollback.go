package main

import "github.com/spf13/cobra"

func newRollback() *cobra.Command {
	var noRestart bool
	return phoneVerb{
		use:   "rollback",
		short: "Roll a machine back to the version from before the last push",
		long: `Roll a machine back to the version in the phone's other slot, which ran before the last ` + "`sov push`" + `.
Both versions use the same data disk. A running machine is restarted. A second rollback undoes the
first.`,
		example: "  sov rollback sql",
		flags: func(c *cobra.Command) {
			c.Flags().BoolVar(&noRestart, "no-restart", false, "do not restart a running machine")
		},
		asks:   "rollback",
		within: stopLimit + startLimit,
		up:     &upFlags{},
		pass:   func() []string { return passIf(noRestart, "--no-restart") },
	}.command()
}
