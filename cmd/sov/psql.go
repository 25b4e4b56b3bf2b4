package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/contract/session"
	"github.com/sovereign-sql/sov/internal/host/authority"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/terminal"
)

func newPsql() *cobra.Command {
	var f sessionFlags
	var identity, user, database string
	var accept bool
	c := &cobra.Command{
		Use:   "psql NAME [-- ARGUMENT...]",
		Short: "Open psql on a machine's database",
		Long: `Run this computer's psql on the database of a machine: the machine of this name that 'sov run' runs
on this computer, otherwise the one on the phone, through the cable or ssh. Arguments after -- are
passed to psql. psql gets the password in its environment: the secret postgres, or role-NAME for
another role. It verifies the database's certificate, see 'sov forward'.

If this computer has no psql, sov runs the guest's psql in the guest, as with 'sov exec': as the
superuser, and with the guest's files.

Exit status: that of psql.`,
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
			if err := f.check(c); err != nil {
				return err
			}
			if f.several() {
				return usagef("psql is for one phone: name one with --device")
			}
			here, err := f.here(name)
			if err != nil {
				return err
			}
			psql, missing := exec.LookPath("psql")
			if missing != nil {
				if user != superuser {
					return fmt.Errorf("%w here, and the guest's own is for the role %s: install it (Debian: apt install postgresql-client), or use another client with `sov forward %s`", missing, superuser, name)
				}
				return f.run(c, name, inGuest(database, args[1:]))
			}
			password, err := secretOf(c.Context(), identity, name, user)
			if err != nil {
				return err
			}
			run := func(ctx context.Context, address netip.AddrPort, passfile string, tls authority.Client) error {
				command := exec.CommandContext(ctx, psql, args[1:]...)
				command.Stdin, command.Stdout, command.Stderr = c.InOrStdin(), terminal.Raw(c.OutOrStdout()), terminal.Raw(c.ErrOrStderr())
				command.Env = append(os.Environ(), "PGUSER="+user, "PGDATABASE="+database, "PGAPPNAME=sov psql")
				command.Env = append(command.Env, tls.Environment(address)...)
				switch { // else psql uses its own password file, or prompts
				case password != "":
					command.Env = append(command.Env, "PGPASSWORD="+password)
				case passfile != "":
					command.Env = append(command.Env, "PGPASSFILE="+passfile)
				}
				command.Cancel = func() error { return nil } // psql handles the terminal's Ctrl-C itself: it cancels a query
				err := command.Run()
				if exit := new(exec.ExitError); errors.As(err, &exit) {
					return &statusError{exit.ExitCode()}
				}
				return err
			}
			if here != nil {
				u, err := url.Parse(here.URL)
				if err != nil || u.Host == "" {
					return fmt.Errorf("%s offers no PostgreSQL on this computer: list its port under network.publish in the recipe", name)
				}
				address, err := netip.ParseAddrPort(u.Host)
				if err != nil {
					return err
				}
				query := u.Query()
				return run(c.Context(), address, query.Get("passfile"), authority.Client{RootCert: query.Get("sslrootcert"), Encrypt: query.Get("sslmode") == authority.Require})
			}
			return f.each(c, func(ctx context.Context, s *fleet.Site) error {
				return forwarding(ctx, s, name, guestspec.ServicePostgres, 0, accept, func(ctx context.Context, address netip.AddrPort, tls authority.Client) error {
					return run(ctx, address, "", tls)
				})
			})
		},
	}
	f.addDevice(c)
	f.localFlags.add(c)
	identityFlag(c, &identity)
	acceptFlag(c, &accept)
	c.Flags().StringVarP(&user, "user", "U", superuser, "role to log in as")
	c.Flags().StringVarP(&database, "database", "d", "postgres", "database to open")
	return c
}

// superuser is the database's superuser, and the guest's user that can log in as superuser without
// a password.
const superuser = "postgres"

// inGuest returns a session that runs the guest's psql on a database.
func inGuest(database string, args []string) session.Start {
	return session.Start{Command: append([]string{"psql"}, args...), User: superuser, Env: map[string]string{
		"PGHOST": guestSocket, "PGUSER": superuser, "PGDATABASE": database, "PGAPPNAME": "sov psql",
	}}
}

// guestSocket is the folder of the server's socket in the guest (unix_socket_directories).
const guestSocket = "/run/postgresql"

// secretOf returns the stored password of a machine's role, or "" if it is not stored.
func secretOf(ctx context.Context, identity, machine, role string) (string, error) {
	store, err := openSecrets(identity)
	if err != nil {
		return "", err
	}
	all, err := store.All(ctx, machine)
	secret := recipe.Role{Name: role}.Secret()
	if role == superuser {
		secret = guestspec.ServicePostgres
	}
	return string(all[secret]), err
}
