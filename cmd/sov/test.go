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
		group: eachMachine,
		short: "Check that a machine on the phone does what it is for",
		long: `Check that a machine does what it is for, and print a line for each check:

  process, network     the machine runs, and its network interface is up
  ping                 the guest answers
  SQL                  a login with the password over the network, a write and a read
  clock                the guest's clock is right
  Tailscale            if it is configured: the node is connected, and the database answers there
  services             all services are ready

Nothing on the phone or in the guest is changed.

Exit status: 0 when all checks pass, 3 when one fails.`,
		example: "  sov test sql\n  sov test sql --all --json",
		note:    "this takes some seconds",
		asks:    "test",
		within:  testLimit,
	}.command()
}
