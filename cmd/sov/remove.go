package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/install"
	"github.com/sovereign-sql/sov/internal/host/terminal"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

func newRemove() *cobra.Command {
	var data, yes, force bool
	return phoneVerb{
		use:   "remove",
		short: "Shut a machine on the phone down and remove it",
		long: `Shut a machine down cleanly and remove it from the phone. Its data disk, volumes and secrets stay,
and ` + "`sov push`" + ` of a machine of the same name uses them again. Removing the last machine also
removes sov-runner.

With --data, the data disk, volumes and secrets are deleted permanently. sov asks at the terminal
first; --yes confirms. This also works after the machine was removed. A running machine is logged
out of its tailnet first. The machine's node stays in the tailnet's list until you remove it in the
tailnet's admin console. If the secret tailscale-api has an API access token, sov removes it.

--force continues after failed steps, such as a network that cannot be restored, and lists what
remains.`,
		example: "  sov remove sql\n  sov backup sql sql.zip && sov remove sql --data",
		flags: func(c *cobra.Command) {
			c.Flags().BoolVar(&data, "data", false, "also delete the data disk, volumes and secrets")
			c.Flags().BoolVar(&force, "force", false, "continue after failed steps, and list what remains")
			c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
		},
		prepare: func(c *cobra.Command, name string, _ []string) error {
			if data && !yes {
				return confirm(c, name, fmt.Sprintf("This deletes every database and secret of %s on the phone", name))
			}
			return nil
		},
		do: func(ctx context.Context, s *fleet.Site, name string) error {
			reporter, err := progress.NewReporter("auto", terminal.Raw(s.ErrOut), os.Getenv)
			if err != nil {
				return err
			}
			there, err := install.Removable(ctx, s, name, ownRunner(reporter, false))
			if err = errors.Join(err, reporter.Close()); err != nil {
				return err
			}
			if !there {
				return printResult(s.Out, s.AsJSON, runnerapi.NewRemoval(name), func(p *printer) { p.printf("%s is not installed\n", name) })
			}
			var node *guestapi.TailnetNode
			if data {
				if node, err = install.NodeOf(ctx, s, name); err != nil && !force {
					return err
				}
			}
			err = show(ctx, s, stopLimit, "remove", name, append(passIf(data, "--data"), passIf(force, "--force")...)...)
			if err != nil || !data {
				return err
			}
			return errors.Join(install.ForgetAuthority(s.Phone, name), // the next data disk will have a new one
				removeNode(ctx, s, "remove", name, node))
		},
	}.command()
}

// removeNode removes a machine's former node from its tailnet if an API token is stored.
func removeNode(ctx context.Context, s *fleet.Site, verb, name string, node *guestapi.TailnetNode) error {
	store, err := openSecrets("")
	if err != nil {
		return err
	}
	done, err := install.RemoveNode(ctx, store, os.Getenv("SOV_TAILSCALE_API"), name, node)
	if done != "" {
		fmt.Fprintf(s.ErrOut, "%s: %s\n", verb, done)
	}
	return err
}

// confirm prints the loss and asks the user at the terminal to type the machine's name. Without a
// terminal it returns an error.
func confirm(c *cobra.Command, name, loss string) error {
	in, ok := c.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usagef("%s, and this is not a terminal: pass --yes to confirm", loss)
	}
	columns, _, err := term.GetSize(int(in.Fd()))
	if err != nil {
		columns = 0
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s.\nType %s to continue: ", strings.Join(progress.Wrap(loss, columns-len("."), 0), "\n"), name)
	line, err := unlessDone(c.Context(), func() ([]byte, error) { return readLine(in) })
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(string(line)) != name {
		return errors.New("not confirmed: nothing was changed")
	}
	return nil
}
