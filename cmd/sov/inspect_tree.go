package main

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

func newInspectTree() *cobra.Command {
	var withSize, asJSON bool
	var depth int
	c := &cobra.Command{
		Use:     "tree IMAGE [PATH]",
		Short:   "Print everything below a directory, with --size where the bytes are",
		Example: "  sov inspect tree --size --depth 2 out/sql/arm64 /usr",
		Args:    cobra.RangeArgs(1, 2),
		RunE: withImage(func(c *cobra.Command, filesystem *ext4.FS, args []string) error {
			root, err := measure(filesystem, inside(args))
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), root)
			}
			return root.print(c.OutOrStdout(), 0, depth, withSize)
		}),
	}
	c.Flags().BoolVar(&withSize, "size", false, "show the size of each file and, summed up, of each directory; the largest first")
	c.Flags().IntVar(&depth, "depth", 0, "how many levels to print; 0 prints all")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// A branch is a path with what is below it.
type branch struct {
	Name     string    `json:"name"`
	Size     int64     `json:"size"` // bytes of content, of everything below for a directory
	Dir      bool      `json:"dir,omitempty"`
	Branches []*branch `json:"entries,omitempty"`
}

func measure(filesystem *ext4.FS, name string) (*branch, error) {
	info, err := filesystem.Lstat(name)
	if err != nil {
		return nil, err
	}
	b := &branch{Name: path.Base(path.Join("/", name)), Dir: info.IsDir()}
	if !info.IsDir() {
		if info.Mode().IsRegular() {
			b.Size = info.Size()
		}
		return b, nil
	}
	entries, err := filesystem.ReadDir(name)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		below, err := measure(filesystem, path.Join(name, e.Name()))
		if err != nil {
			return nil, err
		}
		b.Size += below.Size
		b.Branches = append(b.Branches, below)
	}
	return b, nil
}

func (b *branch) print(w io.Writer, level, depth int, withSize bool) error {
	name := strings.Repeat("  ", level) + shown(b.Name)
	if b.Dir && b.Name != "/" {
		name += "/"
	}
	if withSize {
		name = fmt.Sprintf("%10s  %s", progress.FormatSize(b.Size), name)
	}
	if _, err := fmt.Fprintln(w, name); err != nil {
		return err
	}
	if depth > 0 && level+1 >= depth {
		return nil
	}
	branches := b.Branches
	if withSize {
		branches = slices.Clone(branches)
		slices.SortStableFunc(branches, func(x, y *branch) int { return int(min(max(y.Size-x.Size, -1), 1)) })
	}
	for _, below := range branches {
		if err := below.print(w, level+1, depth, withSize); err != nil {
			return err
		}
	}
	return nil
}
