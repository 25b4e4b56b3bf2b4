package main

import (
	"context"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/group"
)

func newUp() *cobra.Command {
	var b buildFlags
	var p pushFlags
	var forward bool
	c := &cobra.Command{
		Use:   "up RECIPE",
		Short: "Build a machine, install it on the phone, start it and test it",
		Long: `Build a machine from a recipe, install it on the attached phone, start it and test it. This runs sov
build, sov push --start and sov test; steps that are up to date take seconds. Passwords of the
superuser and of the recipe's roles are generated if they are not set.

With --forward, sov then forwards a port to the database and prints its URL, until Ctrl-C. The
machine keeps running.

For a group file, all machines are built first. Then each is installed and started when the machines
of its 'after' are ready.

Exit status: 0 if all checks pass, 3 if one fails.`,
		Example: `  sov up sql
  sov up sql --forward
  sov up ./mine.yaml --device R58M12345
  sov up ./home.yaml                        the machines of a group`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			b.Jobs = runtime.NumCPU()
			p.start, p.arch, p.out = true, b.Arch, b.Out
			if forward && p.several() {
				return usagef("--forward: a port leads to one phone: name one with --device")
			}
			// The user selects the phone once for all steps.
			var err error
			if p.chosen, err = p.choose(c); err != nil {
				return err
			}
			g, err := group.Load(args[0])
			if err != nil {
				return err
			}
			if g != nil {
				if forward {
					return usagef("--forward: a group has several machines: `sov forward NAME` reaches one")
				}
				return upGroup(c, g, b, p)
			}
			if err := runBuild(c, args[0], &b); err != nil {
				return err
			}
			if _, err := pushTo(c, filepath.Join(b.Out, b.Recipe.Name, b.Arch), p); err != nil {
				return err
			}
			name := b.Recipe.Name
			err = p.each(c, func(ctx context.Context, s *fleet.Site) error {
				if err := show(ctx, s, testLimit, "test", name); err != nil || !forward {
					return err
				}
				return forwardTo(ctx, s, name, guestspec.ServicePostgres, 0, false)
			})
			if err == nil && !forward && !p.several() {
				next(c, false, append([]string{"sov", "psql", name}, p.again()...)...)
			}
			return err
		},
	}
	b.add(c)
	variantFlags(c, &b.recipeFlags)
	p.addDevice(c)
	p.up.add(c)
	identityFlag(c, &p.identity)
	flags := c.Flags()
	flags.BoolVar(&p.all, "all", false, "all phones that adb lists")
	flags.StringVarP(&b.Out, "out", "o", "out", "folder for artifacts")
	flags.StringVar(&b.Image, "image", "", "base image instead of the recipe's, as for the build")
	flags.StringArrayVar(&b.Repositories, "repository", nil, "package repository instead of the recipe's, as for the build; may be repeated")
	flags.StringVar(&b.Kernel, "kernel", "", "a compiled kernel to use instead of building one")
	flags.BoolVar(&forward, "forward", false, "forward a port of this computer to the database until Ctrl-C")
	return c
}
