package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/phone"
)

func newLogs() *cobra.Command {
	var f phoneFlags
	var follow, runner bool
	var lines int
	c := &cobra.Command{
		Use:   "logs RECIPE",
		Short: "Show the console of a machine on the phone",
		Long: `Show what a machine has written to its console, from boot to shutdown, or with --runner the log of the program that
looks after it on the phone. What would steer the terminal is left out.`,
		Example:           "  sov logs sql -f\n  sov logs sql --runner -n 200",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			name, err := machine(args)
			if err != nil {
				return err
			}
			if lines < 0 {
				return &usageError{fmt.Errorf("--lines %d: it is less than none", lines)}
			}
			flags := []string{"--lines", strconv.Itoa(lines)}
			limit := phone.DefaultLimit
			if follow {
				flags = append(flags, "--follow")
				limit = phone.NoLimit
			}
			if runner {
				flags = append(flags, "--runner")
			}
			err = f.each(c, func(ctx context.Context, s *site) error {
				return s.runner(ctx, phone.Command{Stdout: s.out, Limit: limit}, "logs", name, flags...)
			})
			if follow && c.Context().Err() != nil {
				return nil // Ctrl-C is how it ends
			}
			return err
		},
	}
	f.add(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written, until Ctrl-C")
	c.Flags().IntVarP(&lines, "lines", "n", 50, "lines from the end")
	c.Flags().BoolVar(&runner, "runner", false, "the log of the phone's side in place of the console")
	c.Flags().MarkHidden("json")
	return c
}
