package main

import "github.com/spf13/cobra"

func newRestart() *cobra.Command {
	return phoneVerb{
		use:   "restart",
		group: inOrder,
		short: "Shut a machine on the phone down in order and start it again",
		long: `Shut a machine down in order and start what is installed now, which after ` + "`sov push`" + ` is the new version; new secrets
and settings are taken too.`,
		example: "  sov restart sql",
		asks:    "restart",
		within:  stopLimit + startLimit,
		up:      &upFlags{},
	}.command()
}
