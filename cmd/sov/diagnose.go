package main

import "github.com/spf13/cobra"

func newDiagnose() *cobra.Command {
	var fix bool
	return phoneVerb{
		use:   "diagnose",
		short: "Say which layer of a machine on the phone is broken",
		long: `Look at the nine layers that a machine stands on, from its process to its services, and name the first that is broken as
the cause, with what to do. --fix repairs what is the phone's: its network, and a machine that does not run.

Exit status: 0 when nothing is broken, 3 when something is.`,
		example: "  sov diagnose sql\n  sov diagnose sql --fix",
		flags:   func(c *cobra.Command) { c.Flags().BoolVar(&fix, "fix", false, "repair what is the phone's") },
		note:    "this takes some seconds",
		asks:    "diagnose",
		within:  startLimit,
		pass:    func() []string { return passIf(fix, "--fix") },
	}.command()
}
