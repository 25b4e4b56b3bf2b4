package main

import (
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/inspect"
	"github.com/sovereign-sql/sov/internal/image/ext4"
)

func newInspectLs() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "ls IMAGE [PATH]",
		Short:   "List a directory",
		Example: "  sov inspect ls out/sql/arm64 /etc/sov",
		Args:    cobra.RangeArgs(1, 2),
		RunE: withImage(func(c *cobra.Command, filesystem *ext4.FS, args []string) error {
			entries, err := inspect.List(filesystem, inspect.Inside(strings.Join(args[1:], "")))
			if err != nil {
				return err
			}
			return printResult(c.OutOrStdout(), asJSON, entries, func(p *printer) {
				for _, e := range entries {
					p.printf("%s\n", line(e))
				}
			})
		}),
	}
	jsonFlag(c, &asJSON)
	return c
}

// line formats an entry as `ls -l` does.
func line(e *inspect.Entry) string {
	name := shown(path.Base(e.Path))
	extent := fmt.Sprint(e.Size)
	if e.Device != "" {
		extent = e.Device
	}
	if e.Target != "" {
		name += " -> " + shown(e.Target)
	}
	return fmt.Sprintf("%s %3d %5d %5d %10s %s %s", e.Mode, e.Links, e.UID, e.GID, extent, e.Time[:19], name)
}
