package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/install"
)

func newRekey() *cobra.Command {
	return phoneVerb{
		use:   "rekey",
		short: "Change the key of a machine's encrypted disks",
		long: `Change the key of a machine's encrypted disks (vm.encrypt and volumes in its recipe), and restart
the machine. sov generates a new key, stores it with the secrets of this computer, and keeps the old
one as ` + guestspec.SecretOldDataKey + `. The guest adds the new key, tests it, and then removes the old one. After an
interruption at any moment, one of the two keys opens the disks, and the next start or ` + "`sov rekey`" + `
continues.

The old key no longer opens these disks. It is kept for other disks, which get the new key at their
next start: those on phones that were not connected, and the one of ` + "`sov run`" + `. When all disks have
the new key, remove the old one with ` + "`sov secrets rm`" + `; until then sov rekey does not generate
another key.`,
		example: `  sov rekey vault
  sov secrets rm vault data-key-old`,
		prepare: func(c *cobra.Command, name string, _ []string) error {
			store, err := openSecrets("")
			if err != nil {
				return err
			}
			made, err := store.ChangeDataKey(c.Context(), name)
			switch {
			case err != nil:
				return err
			case made:
				fmt.Fprintf(c.ErrOrStderr(), "rekey: a new key of %s is kept; the old one stays as %s\n", name, guestspec.SecretOldDataKey)
			default:
				fmt.Fprintf(c.ErrOrStderr(), "rekey: %s has an unfinished change of its key, which continues: `sov secrets rm %[1]s %s` ends it when every disk has the new key\n",
					name, guestspec.SecretOldDataKey)
			}
			return nil
		},
		do: func(ctx context.Context, s *fleet.Site, name string) error {
			store, err := openSecrets("")
			if err != nil {
				return err
			}
			if err := install.SendDataKeys(ctx, s, store, name); err != nil {
				return err
			}
			with, args, err := withDataKey(ctx, s, "", name, nil)
			if err != nil {
				return err
			}
			if err := show(ctx, with, stopLimit+startLimit, "restart", name, args...); err != nil {
				return err
			}
			return install.CheckRekeyed(ctx, s, name)
		},
	}.command()
}
