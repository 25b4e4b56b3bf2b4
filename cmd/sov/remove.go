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

	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/push"
)

func newRemove() *cobra.Command {
	var f phoneFlags
	var data, yes bool
	c := &cobra.Command{
		Use:   "remove RECIPE",
		Short: "Shut a machine on the phone down and remove it",
		Long: `Shut a machine down in order and remove it from the phone. Its data disk and its secrets stay, and ` + "`sov push`" + ` of a machine
of the same name takes them on. With --data they are removed too, for ever, after a question at the terminal or with --yes;
also later, when nothing but them is left. The last machine takes sov-runner along.`,
		Example:           "  sov remove sql\n  sov backup sql sql.zip && sov remove sql --data",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			name, err := machine(args)
			if err != nil {
				return err
			}
			var flags []string
			if data {
				flags = append(flags, "--data")
			}
			if data && !yes {
				if err := confirm(c, name, "every database and secret of it on the phone is lost"); err != nil {
					return err
				}
			}
			return f.each(c, func(ctx context.Context, s *fleet.Site) error { return uninstall(ctx, s, name, flags) })
		},
	}
	f.add(c)
	c.Flags().BoolVar(&data, "data", false, "remove its data disk and secrets as well")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// uninstall removes a machine. Where an earlier removal has left its data and taken sov-runner along, one is sent for this,
// which takes itself along again.
func uninstall(ctx context.Context, s *fleet.Site, name string, flags []string) error {
	vm, err := s.Root().VM(name)
	if err != nil {
		return err
	}
	const look = `if [ -e "$1" ]; then echo runner; elif [ -e "$2" ] || [ -e "$3" ]; then echo data; else echo nothing; fi`
	found, err := device.Output(ctx, s, "sh", "-c", look, "sh", s.Root().Runner(), vm.Dir(), vm.Secrets())
	if err != nil {
		return err
	}
	switch strings.TrimSpace(string(found)) {
	case "nothing":
		if s.AsJSON {
			return printJSON(s.Out, runnerapi.NewRemoval(name))
		}
		_, err := fmt.Fprintf(s.Out, "%s is not installed\n", name)
		return err
	case "data":
		if _, err := push.EnsureRunner(ctx, s, ownRunner(false)); err != nil {
			return err
		}
	}
	return show(ctx, s, stopLimit, "remove", name, flags...)
}

// confirm asks a person at the terminal to type the machine's name. Nobody there to be asked is a refusal.
func confirm(c *cobra.Command, name, loss string) error {
	in, ok := c.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usagef("%s: there is nobody to ask: --yes says that it is meant", loss)
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s: type %s to go on: ", loss, name)
	line, err := unlessDone(c.Context(), func() ([]byte, error) { return readLine(in) })
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(string(line)) != name {
		return errors.New("nothing is done")
	}
	return nil
}
