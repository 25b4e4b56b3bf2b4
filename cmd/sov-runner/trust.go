package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/trustapi"
	"github.com/sovereign-sql/sov/internal/phone/trust"
)

func newTrust(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "trust",
		Short: "List the keys that this phone trusts",
		Long: `List the keys that this phone trusts. If there is one, "receive" and "install" accept only versions
that are signed with a trusted key and whose serial is not lower than an earlier one. Without a key,
versions need no signature. The keys and serials are stored in the folder trust, and are kept when
machines are removed; root resets them by removing the files.`,
		Example: "  sov-runner trust\n  sov-runner trust --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := trust.Of(o.layout()).List()
			if err != nil {
				return err
			}
			return printTrust(c, o, list)
		},
	}
	c.AddCommand(&cobra.Command{
		Use:   "change",
		Short: "Change the trusted keys, for sov phone trust",
		Long: `Add or remove a key. The change is read from standard input, in the format of "sov phone trust". If
the phone trusts keys, one of them must have signed the change.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			change, err := io.ReadAll(io.LimitReader(os.Stdin, trustapi.MaxChange+1))
			if err != nil {
				return err
			}
			list, err := trust.Of(o.layout()).Change(change)
			if err != nil {
				return err
			}
			return printTrust(c, o, list)
		},
	})
	return c
}

func printTrust(c *cobra.Command, o *options, list *trustapi.List) error {
	if o.json {
		return printJSON(c.OutOrStdout(), list)
	}
	if len(list.Keys) == 0 {
		_, err := fmt.Fprintln(c.OutOrStdout(), "this phone trusts no key: versions need no signature")
		return err
	}
	for _, id := range list.Keys {
		if _, err := fmt.Fprintf(c.OutOrStdout(), "this phone takes versions signed by key %s\n", id); err != nil {
			return err
		}
	}
	return nil
}
