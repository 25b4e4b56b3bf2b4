package main

import (
	"time"

	"github.com/spf13/cobra"
)

// testLimit is the timeout of all checks together; each has its own timeout.
const testLimit = 3 * time.Minute

func newTest() *cobra.Command {
	return phoneVerb{
		use:   "test",
		group: eachMachine,
		short: "Run the acceptance test of a machine on the phone",
		long: `Run the acceptance test of a machine, and print a line for each check:

  process, network     the machine runs, and its network interface is up
  ping                 the guest answers
  SQL                  login with the password over the network, write and read
  clock                the guest's clock is right
  Tailscale            if it is configured: the node is connected, and the database answers there
  services             all services are ready

The test changes nothing on the phone or in the guest.

Exit status: 0 if all checks pass, 3 if one fails.`,
		example: "  sov test sql\n  sov test sql --all --json",
		note:    "this takes some seconds",
		asks:    "test",
		within:  testLimit,
	}.command()
}
