package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
)

// show runs sov-runner and prints what it answers: for people, or with --json its object, looked at before it is believed.
func show(ctx context.Context, s *fleet.Site, limit time.Duration, verb, name string, args ...string) error {
	if !s.AsJSON {
		return s.Runner(ctx, device.Command{Stdout: s.Out, Limit: limit}, verb, name, args...)
	}
	text, err := s.Ask(ctx, limit, verb, name, args...)
	if text == nil {
		return err
	}
	return errors.Join(printJSON(s.Out, text), err)
}

// machine returns the name of the machine that the command's first argument means.
func machine(args []string) (string, error) {
	name, _, err := built.Machine(args[0])
	return name, err
}

// A verb is a command that does one thing to a machine on a phone.
type verb struct {
	use, short, long, example string
	flags                     func(c *cobra.Command)
	do                        func(ctx context.Context, s *fleet.Site, name string) error
}

// command makes the command of a verb.
func (v verb) command() *cobra.Command {
	var f phoneFlags
	c := &cobra.Command{
		Use: v.use + " RECIPE", Short: v.short, Long: v.long, Example: v.example,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			name, err := machine(args)
			if err != nil {
				return err
			}
			return f.each(c, func(ctx context.Context, s *fleet.Site) error { return v.do(ctx, s, name) })
		},
	}
	f.add(c)
	if v.flags != nil {
		v.flags(c)
	}
	return c
}
