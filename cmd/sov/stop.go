package main

import (
	"github.com/spf13/cobra"
)

func newStop() *cobra.Command {
	return phoneVerb{
		use:   "stop",
		short: "Shut a machine on the phone down in order",
		long: `Shut a machine down in order: its services are stopped, PostgreSQL with a checkpoint, its disks unmounted, and the phone's
network is as it was before. Where nothing runs, nothing happens. It is started again by ` + "`sov start`" + `, and when the phone
restarts.`,
		example: "  sov stop sql\n  sov stop sql --all",
		asks:    "down",
		within:  stopLimit,
	}.command()
}
