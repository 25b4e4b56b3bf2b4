package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/inspect"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

func newInspectStat() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "stat IMAGE [PATH]",
		Short:   "Describe a file, or the file system itself",
		Example: "  sov inspect stat out/sql/arm64\n  sov inspect stat out/sql/arm64 /bin/busybox",
		Args:    cobra.RangeArgs(1, 2),
		RunE: withImage(func(c *cobra.Command, filesystem *ext4.FS, args []string) error {
			if len(args) == 1 {
				super := inspect.Super(filesystem)
				return printResult(c.OutOrStdout(), asJSON, super, func(p *printer) { printSuper(p, super) })
			}
			entry, err := inspect.Describe(filesystem, inspect.Inside(args[1]))
			if err != nil {
				return err
			}
			return printResult(c.OutOrStdout(), asJSON, entry, func(p *printer) { printEntry(p, entry) })
		}),
	}
	jsonFlag(c, &asJSON)
	return c
}

func printEntry(p *printer, e *inspect.Entry) {
	p.printf("path    %s\ninode   %d\nmode    %s\nlinks   %d\nowner   %d:%d\nsize    %d\nblocks  %d\ntime    %s\n",
		shown(e.Path), e.Inode, e.Mode, e.Links, e.UID, e.GID, e.Size, e.Blocks, e.Time)
	if e.Device != "" {
		p.printf("device  %s\n", e.Device)
	}
	if e.Target != "" {
		p.printf("target  %s\n", shown(e.Target))
	}
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		p.printf("xattr   %s=%s\n", shown(name), e.Xattrs[name])
	}
}

func printSuper(p *printer, s inspect.FileSystem) {
	p.printf("label       %s\nuuid        %s\nblock size  %d\nsize        %s, %s free\ninodes      %d, %d free\nfeatures    %s\n",
		s.Label, s.UUID, s.BlockSize, progress.FormatSize(s.Size), progress.FormatSize(s.Free), s.Inodes, s.FreeInode, strings.Join(s.Features, " "))
}
