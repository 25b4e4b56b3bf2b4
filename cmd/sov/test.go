package main

import (
	"time"

	"github.com/spf13/cobra"
)

// testLimit is for all checks together, each of which is bounded by itself.
const testLimit = 3 * time.Minute

func newTest() *cobra.Command {
	return phoneVerb{
		use:   "test",
		group: everyOne,
		short: "Check that a machine on the phone does what it is for",
		long: `Check that a machine does what it is for, as somebody who uses it would: its process runs, its network interface stands,
the guest answers pings, a query is answered over the network after a login with the password, the guest's clock is right;
where Tailscale is configured, the node is connected, and the database answers on its tailnet address. A line for each
check. It changes nothing.

Exit status: 0 when all checks pass, 3 when one fails.`,
		example: "  sov test sql\n  sov test sql --all --json",
		note:    "this takes some seconds",
		asks:    "test",
		within:  testLimit,
	}.command()
}
