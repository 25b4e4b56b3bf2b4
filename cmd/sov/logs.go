package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/group"
)

func newLogs() *cobra.Command {
	var f phoneFlags
	var follow, runner bool
	var service string
	var lines int
	c := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show the console of a machine on the phone",
		Long: `Print a machine's console from boot to shutdown, with --service the log of one of its services, or
with --runner the log of sov-runner on the phone. Terminal control sequences are removed. For a
group file, the logs of all machines are printed, with the machine's name before each line.`,
		Example:           "  sov logs sql -f\n  sov logs sql --service postgres -n 200\n  sov logs sql --runner\n  sov logs ./home.yaml -f",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: machines,
		RunE: func(c *cobra.Command, args []string) error {
			g, err := group.Load(args[0])
			if err != nil {
				return err
			}
			var names []string
			if g != nil {
				names = g.Names()
			} else {
				var name string
				name, _, err = built.Machine(args[0])
				names = []string{name}
			}
			if err == nil {
				err = excludeEachOther(c, [2]string{"service", "runner"})
			}
			if err != nil {
				return err
			}
			if lines < 0 {
				return usagef("--lines %d: must be 0 or more", lines)
			}
			flags := []string{"--lines", strconv.Itoa(lines)}
			idle := device.DefaultLimit // no limit with a pager
			if follow {
				flags = append(flags, "--follow")
				idle = 0
			}
			if service != "" {
				flags = append(flags, "--service="+service)
			}
			if runner {
				flags = append(flags, "--runner")
			}
			err = f.each(c, func(ctx context.Context, s *fleet.Site) error {
				one := func(s *fleet.Site, name string) error {
					return s.Runner(ctx, device.Command{Stdout: s.Out, Limit: device.NoLimit, Idle: idle}, "logs", name, flags...)
				}
				if g == nil {
					return one(s, names[0])
				}
				return s.ForEach(names, follow, one)
			})
			if follow && c.Context().Err() != nil {
				return nil // the user ended it with Ctrl-C
			}
			return err
		},
	}
	f.add(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "print new lines as they are written, until Ctrl-C")
	c.Flags().IntVarP(&lines, "lines", "n", 50, "number of lines from the end")
	c.Flags().StringVar(&service, "service", "", "print the log of a `service`, such as postgres, instead of the console")
	c.Flags().BoolVar(&runner, "runner", false, "print sov-runner's log instead of the console")
	c.Flags().MarkHidden("json")
	return c
}
