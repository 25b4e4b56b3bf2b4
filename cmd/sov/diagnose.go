package main

import "github.com/spf13/cobra"

func newDiagnose() *cobra.Command {
	var fix bool
	return phoneVerb{
		use:   "diagnose",
		short: "Say which layer of a machine on the phone is broken",
		long: `Check the nine layers of a machine, from its process to its services. The first broken layer is
named as the cause, with advice. --fix repairs the phone's network and starts a machine that does
not run.

Exit status: 0 when no layer is broken, 3 when one is.`,
		example: "  sov diagnose sql\n  sov diagnose sql --fix",
		flags:   func(c *cobra.Command) { c.Flags().BoolVar(&fix, "fix", false, "repair what is the phone's") },
		note:    "this takes some seconds",
		asks:    "diagnose",
		within:  startLimit,
		pass:    func() []string { return passIf(fix, "--fix") },
	}.command()
}
