package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/group"
)

// A groupOrder is the order in which a command processes the machines of a group.
type groupOrder int

const (
	noGroup     groupOrder = iota // takes one machine only
	inOrder                       // in start order; stops at the first failure
	backward                      // in reverse start order; continues after a failure
	eachMachine                   // in start order; continues after a failure
)

// eachOf runs the command for each machine of a group.
func (v phoneVerb) eachOf(c *cobra.Command, g *group.Group, args []string) error {
	machines := g.Names()
	if v.group == backward {
		slices.Reverse(machines)
	}
	var failed []error
	for _, name := range machines {
		err := c.RunE(c, append([]string{name}, args...))
		if err != nil && v.group == inOrder {
			return err
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// pushGroup installs the machines of a group. If the flags say so, it starts each machine and waits
// for its services before it installs the next.
func pushGroup(c *cobra.Command, g *group.Group, f pushFlags) error {
	if err := f.check(c); err != nil {
		return err
	}
	var dirs []string
	for _, name := range g.Names() {
		dir := filepath.Join(f.out, name, f.arch)
		if !exists(filepath.Join(dir, artifact.ManifestFile)) {
			return notBuilt(dir, g.File, f.arch)
		}
		dirs = append(dirs, dir)
	}
	var err error
	if f.chosen, err = f.choose(c); err != nil { // once for all machines
		return err
	}
	for _, dir := range dirs {
		if _, err := pushDir(c, dir, g.File, f); err != nil {
			return err
		}
	}
	return nil
}

// upGroup builds all machines of a group, installs and starts them in order, and tests each.
func upGroup(c *cobra.Command, g *group.Group, b buildFlags, p pushFlags) error {
	if err := buildAll(c, targetsOf(g), b); err != nil {
		return err
	}
	if err := pushGroup(c, g, p); err != nil {
		return err
	}
	var failed []error
	for _, name := range g.Names() {
		failed = append(failed, p.each(c, func(ctx context.Context, s *fleet.Site) error { return show(ctx, s, testLimit, "test", name) }))
	}
	return errors.Join(failed...)
}
