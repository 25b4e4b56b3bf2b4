package main

import "github.com/spf13/cobra"

func newDiagnose() *cobra.Command {
	var fix bool
	return phoneVerb{
		use:   "diagnose",
		short: "Find the broken layer of a machine on the phone",
		long: `Check the nine layers of a machine, from its process to its services. sov prints the first broken
layer as the cause, with advice. --fix repairs the phone's network and starts a machine that is not
running.

Exit status: 0 if no layer is broken, 3 if one is.`,
		example: "  sov diagnose sql\n  sov diagnose sql --fix",
		flags:   func(c *cobra.Command) { c.Flags().BoolVar(&fix, "fix", false, "repair the phone's side") },
		note:    "this takes some seconds",
		asks:    "diagnose",
		within:  startLimit,
		pass:    func() []string { return passIf(fix, "--fix") },
	}.command()
}
