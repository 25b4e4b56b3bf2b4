package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

func newSlots(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "slots NAME",
		Short: "Show the two installed versions of a machine",
		Long: `Show both slots of a machine. A version is new until it has been ready once, and good from then on.
It is bad if its trial failed, with the reason, and broken if it is incomplete.`,
		Example: "  sov-runner slots sql\n  sov-runner slots sql --json",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			slots, err := daemon.Slots(o.layout(), args[0])
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), slots)
			}
			for _, s := range slots {
				if _, err := fmt.Fprintf(c.OutOrStdout(), "%s  %s\n", s.Slot, describeSlot(s, false)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// describeSlot returns a line that describes a slot.
func describeSlot(s runnerapi.Slot, runs bool) string {
	text := string(s.State)
	if s.Version != "" {
		text = fmt.Sprintf("version %s (%.12s), %s", s.Version, s.Digest, s.State)
	}
	if s.SignedBy != "" {
		text += fmt.Sprintf(", signed by key %.16s…, serial %d", s.SignedBy, s.Serial)
	}
	if s.Current {
		text += ", current"
	}
	if runs {
		text += ", runs"
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

func newRollback(o *options) *cobra.Command {
	f := &upFlags{}
	var noRestart bool
	c := &cobra.Command{
		Use:   "rollback NAME",
		Short: "Roll back to the previous version",
		Long: `Make the version in the other slot current, and restart the machine if it runs. Data is not changed.
A second rollback undoes the first. A version whose trial failed cannot become current again.`,
		Example: "  sov-runner rollback sql\n  sov-runner rollback sql --no-restart",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			slot, running, err := daemon.RollBack(c.Context(), o.layout(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(c.ErrOrStderr(), "%s: slot %s, version %s, is current\n", args[0], slot.Slot, slot.Version)
			if !running || noRestart {
				if o.json {
					return printJSON(c.OutOrStdout(), slot)
				}
				return nil
			}
			if err := daemon.Down(c.Context(), o.layout(), args[0], progress(c.ErrOrStderr(), args[0])); err != nil {
				return err
			}
			return up(c, o, f, args[0])
		},
	}
	f.add(c)
	c.Flags().BoolVar(&noRestart, "no-restart", false, "do not restart a running machine")
	return c
}

func newReceive(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "receive NAME",
		Short: "Receive a version from sov push",
		Long: `Receive a version of a machine from "sov push" on standard input, and answer on standard output. It
is installed in the slot that is not current, and becomes current when it is complete.`,
		Args: oneName,
		RunE: func(c *cobra.Command, args []string) error {
			return daemon.Receive(c.Context(), o.layout(), args[0], version(), os.Stdin, os.Stdout)
		},
	}
}

func newInstall(o *options) *cobra.Command {
	var allowDowngrade bool
	c := &cobra.Command{
		Use:   "install NAME DIR|ZIP",
		Short: "Install a version from a folder or a module's archive on this phone",
		Long: `Install a version of a machine from a folder of "sov build" or from a module's archive. It is
installed in the slot that is not current, and becomes current when it is complete; a version that
is already installed is not changed. A phone that trusts keys (sov-runner trust) accepts only
versions that are signed with one of them and are not older than an earlier one.`,
		Example: "  sov-runner install sql /data/local/tmp/sql\n  sov-runner install sql /sdcard/Download/sov-sql.zip",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return &usageError{fmt.Errorf("it takes the name of a machine and a folder or archive (see `%s --help`)", c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			done, err := daemon.Install(c.Context(), o.layout(), args[0], version(), args[1], allowDowngrade)
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), done)
			}
			what := "installed into"
			if done.Unchanged {
				what = "was there already, whole, in"
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s slot %s\n", args[0], what, done.Slot)
			return err
		},
	}
	c.Flags().BoolVar(&allowDowngrade, "allow-downgrade", false, "install a signed version even if its serial is lower than an earlier one")
	return c
}
