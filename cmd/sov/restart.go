package main

import (
	"context"

	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/spf13/cobra"
)

func newRestart() *cobra.Command {
	var up upFlags
	return phoneVerb{
		use:   "restart",
		short: "Shut a machine on the phone down in order and start it again",
		long: `Shut a machine down in order and start what is installed now, which after ` + "`sov push`" + ` is the new version; new secrets
and settings are taken too.`,
		example: "  sov restart sql",
		flags:   up.add,
		do: func(ctx context.Context, s *fleet.Site, name string) error {
			return show(ctx, s, stopLimit+startLimit+up.timeout, "restart", name, up.args()...)
		},
	}.command()
}
