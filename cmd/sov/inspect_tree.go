package main

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/inspect"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

func newInspectTree() *cobra.Command {
	var withSize, asJSON bool
	var depth int
	c := &cobra.Command{
		Use:     "tree IMAGE [PATH]",
		Short:   "Print a directory tree, with --size the disk usage",
		Example: "  sov inspect tree --size --depth 2 out/sql/arm64 /usr",
		Args:    cobra.RangeArgs(1, 2),
		RunE: withImage(func(c *cobra.Command, filesystem *ext4.FS, args []string) error {
			root, err := inspect.Measure(filesystem, inspect.Inside(strings.Join(args[1:], "")))
			if err != nil {
				return err
			}
			return printResult(c.OutOrStdout(), asJSON, root, func(p *printer) { printBranch(p, root, 0, depth, withSize) })
		}),
	}
	c.Flags().BoolVar(&withSize, "size", false, "show the size of each file and, summed up, of each directory; the largest first")
	c.Flags().IntVar(&depth, "depth", 0, "how many levels to print; 0 prints all")
	jsonFlag(c, &asJSON)
	return c
}

func printBranch(p *printer, b *inspect.Branch, level, depth int, withSize bool) {
	if withSize {
		p.printf("%10s  ", progress.FormatSize(b.Size))
	}
	p.printf("%s%s", strings.Repeat("  ", level), shown(b.Name))
	if b.Dir && b.Name != "/" {
		p.printf("/")
	}
	p.printf("\n")
	if depth > 0 && level+1 >= depth {
		return
	}
	branches := b.Branches
	if withSize {
		branches = slices.Clone(branches)
		slices.SortStableFunc(branches, func(x, y *inspect.Branch) int { return cmp.Compare(y.Size, x.Size) })
	}
	for _, below := range branches {
		printBranch(p, below, level+1, depth, withSize)
	}
}
