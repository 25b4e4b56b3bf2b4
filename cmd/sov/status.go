package main

import (
	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/device"
)

func newStatus() *cobra.Command {
	return phoneVerb{
		use:   "status",
		short: "Say how a machine on the phone is",
		long: `Say how a machine is: its phase and since when, the version that runs, its processes, its network, the services in it.
It changes nothing and always answers, whatever state the machine is in; whether all is well is what ` + "`sov test`" + ` says.`,
		example: "  sov status sql\n  sov status sql --all --json",
		asks:    "status",
		within:  device.DefaultLimit,
	}.command()
}
