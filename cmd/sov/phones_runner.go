package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/group"
)

// show runs sov-runner and prints its output as text or, with --json, its JSON object, which is
// validated first.
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

// A phoneVerb describes a command for a machine on phones.
type phoneVerb struct {
	use                  string // name, and arguments after the machine
	short, long, example string
	args                 int    // number of arguments after the machine
	single               string // why it takes only one phone; empty: it takes any number
	flags                func(c *cobra.Command)
	// prepare checks the arguments after the machine and asks the user. It runs before phones are
	// searched.
	prepare func(c *cobra.Command, name string, args []string) error
	do      func(ctx context.Context, s *fleet.Site, name string) error
	// Instead of do: sov-runner's command, its timeout, and the flags to pass on.
	asks   string
	within time.Duration
	up     *upFlags // nil: does not wait for a machine
	note   string   // printed first at a terminal, for commands without progress; may be empty
	pass   func() []string
	// How the command processes a group file; empty: it takes none. forGroup runs first and returns
	// the selected machines as a group.
	group    groupOrder
	forGroup func(g *group.Group, args []string) (*group.Group, error)
}

// command returns the cobra command.
func (v phoneVerb) command() *cobra.Command {
	var f phoneFlags
	if v.do == nil {
		v.do = v.ask
	}
	word, more, _ := strings.Cut(v.use+" ", " ")
	c := &cobra.Command{
		Use: strings.TrimSpace(word + " NAME " + more), Short: v.short, Long: v.long, Example: v.example,
		Args: cobra.ExactArgs(1 + v.args),
		RunE: func(c *cobra.Command, args []string) error {
			g, err := group.Load(args[0])
			if err != nil {
				return err
			}
			if g != nil {
				if v.group == noGroup {
					return usagef("a group file: name one of its machines")
				}
				if v.single != "" && f.several() {
					return usagef("%s: name one with --device", v.single)
				}
				if f.chosen, err = f.choose(c); err != nil { // once for all machines
					return err
				}
				if v.forGroup != nil {
					if g, err = v.forGroup(g, args[1:]); err != nil {
						return err
					}
				}
				return v.eachOf(c, g, args[1:])
			}
			name, _, err := built.Machine(args[0])
			if err == nil && v.prepare != nil {
				err = v.prepare(c, name, args[1:])
			}
			if err != nil {
				return err
			}
			if v.single != "" && f.several() {
				return usagef("%s: name one with --device", v.single)
			}
			return f.each(c, func(ctx context.Context, s *fleet.Site) error {
				if terminalOf(c) != nil && !s.AsJSON && v.note != "" {
					fmt.Fprintf(s.ErrOut, "%s: %s\n", word, v.note)
				}
				return v.do(ctx, s, name)
			})
		},
	}
	if v.args == 0 {
		c.ValidArgsFunction = machines
	}
	f.add(c)
	if v.up != nil {
		v.up.add(c)
	}
	if v.flags != nil {
		v.flags(c)
	}
	return c
}

// ask runs sov-runner and prints its output.
func (v phoneVerb) ask(ctx context.Context, s *fleet.Site, name string) error {
	var args []string
	limit := v.within
	if v.up != nil {
		args = v.up.args()
		limit += v.up.timeout
		var err error
		if s, args, err = withDataKey(ctx, s, "", name, args); err != nil {
			return err
		}
	}
	if v.pass != nil {
		args = append(args, v.pass()...)
	}
	return show(ctx, s, limit, v.asks, name, args...)
}

// passIf returns a flag for sov-runner if set is true.
func passIf(set bool, flag string) []string {
	if set {
		return []string{flag}
	}
	return nil
}
