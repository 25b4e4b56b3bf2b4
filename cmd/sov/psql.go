package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/terminal"
)

func newPsql() *cobra.Command {
	var f phoneFlags
	var identity, user, database string
	c := &cobra.Command{
		Use:   "psql NAME [-- ARGUMENT...]",
		Short: "Open psql on a machine's database on the phone",
		Long: `Run this computer's psql on the database of a machine on the phone, through the cable or ssh. What follows -- is passed on to
psql. The password is the machine's secret; psql gets it in its environment, not as an argument. A role other than postgres has
the secret role-NAME.

Exit status: psql's own.`,
		Example: `  sov psql sql
  sov psql sql -- -c 'select version()'
  sov psql sql --user app --database shop -- -f dump.sql`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: machines,
		RunE: func(c *cobra.Command, args []string) error {
			name, _, err := built.Machine(args[0])
			if err != nil {
				return err
			}
			psql, err := exec.LookPath("psql")
			if err != nil {
				return fmt.Errorf("psql is not installed here: install it (Debian: apt install postgresql-client), or use another client with `sov forward %s`", name)
			}
			password, err := secretOf(c.Context(), identity, name, user)
			if err != nil {
				return err
			}
			if f.several() {
				return usagef("psql is for one phone: name one with --device")
			}
			return f.each(c, func(ctx context.Context, s *fleet.Site) error {
				return forwarding(ctx, s, name, guestspec.ServicePostgres, 0, func(ctx context.Context, address net.Addr) error {
					host, port, err := net.SplitHostPort(address.String())
					if err != nil {
						return err
					}
					command := exec.CommandContext(ctx, psql, args[1:]...)
					command.Stdin, command.Stdout, command.Stderr = c.InOrStdin(), terminal.Raw(c.OutOrStdout()), terminal.Raw(c.ErrOrStderr())
					command.Env = append(os.Environ(), "PGHOST="+host, "PGPORT="+port, "PGUSER="+user, "PGDATABASE="+database,
						"PGPASSWORD="+password, "PGSSLMODE=disable", "PGAPPNAME=sov psql")
					command.Cancel = func() error { return nil } // the terminal's Ctrl-C is psql's own: it cancels a query
					err = command.Run()
					if exit := new(exec.ExitError); errors.As(err, &exit) {
						return &statusError{exit.ExitCode()}
					}
					return err
				})
			})
		},
	}
	f.addDevice(c)
	identityFlag(c, &identity)
	c.Flags().StringVarP(&user, "user", "U", "postgres", "role to log in as")
	c.Flags().StringVarP(&database, "database", "d", "postgres", "database to open")
	return c
}

// secretOf returns the password of a role of a machine, as it is kept here; empty if none is.
func secretOf(ctx context.Context, identity, machine, role string) (string, error) {
	store, err := openSecrets(identity)
	if err != nil {
		return "", err
	}
	all, err := store.All(ctx, machine)
	secret := recipe.Role{Name: role}.Secret()
	if role == "postgres" {
		secret = guestspec.ServicePostgres
	}
	return string(all[secret]), err
}
