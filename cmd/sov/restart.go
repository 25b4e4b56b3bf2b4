package main

import "github.com/spf13/cobra"

func newRestart() *cobra.Command {
	return phoneVerb{
		use:   "restart",
		group: inOrder,
		short: "Shut a machine on the phone down cleanly and start it again",
		long: `Shut a machine down cleanly and start its current version. After ` + "`sov push`" + `, that is the new
version. New secrets and settings take effect.`,
		example: "  sov restart sql",
		asks:    "restart",
		within:  stopLimit + startLimit,
		up:      &upFlags{},
	}.command()
}
