package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

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
				return printSuper(c.OutOrStdout(), filesystem, asJSON)
			}
			r, err := report(filesystem, inside(args))
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			return r.print(c.OutOrStdout())
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (r *fileReport) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "path    %s\ninode   %d\nmode    %s\nlinks   %d\nowner   %d:%d\nsize    %d\nblocks  %d\ntime    %s\n",
		shown(r.Path), r.Inode, r.Mode, r.Links, r.UID, r.GID, r.Size, r.Blocks, r.Time)
	if r.Device != "" {
		fmt.Fprintf(&b, "device  %s\n", r.Device)
	}
	if r.Target != "" {
		fmt.Fprintf(&b, "target  %s\n", shown(r.Target))
	}
	names := make([]string, 0, len(r.Xattrs))
	for name := range r.Xattrs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "xattr   %s=%s\n", shown(name), r.Xattrs[name])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// superReport is what `sov inspect stat IMAGE --json` prints.
type superReport struct {
	Label     string   `json:"label"`
	UUID      string   `json:"uuid"`
	BlockSize int      `json:"block_size"` // bytes
	Size      int64    `json:"size"`       // bytes
	Free      int64    `json:"free"`       // bytes
	Inodes    uint32   `json:"inodes"`
	FreeInode uint32   `json:"free_inodes"`
	Features  []string `json:"features"`
}

func printSuper(w io.Writer, filesystem *ext4.FS, asJSON bool) error {
	s := filesystem.Super()
	r := superReport{
		Label: s.Label, UUID: uuidString(s.UUID), BlockSize: s.BlockSize,
		Size: int64(s.Blocks) * int64(s.BlockSize), Free: int64(s.FreeBlocks) * int64(s.BlockSize),
		Inodes: s.Inodes, FreeInode: s.FreeInodes, Features: s.Features,
	}
	if asJSON {
		return printJSON(w, r)
	}
	_, err := fmt.Fprintf(w, "label       %s\nuuid        %s\nblock size  %d\nsize        %s, %s free\ninodes      %d, %d free\nfeatures    %s\n",
		r.Label, r.UUID, r.BlockSize, progress.FormatSize(r.Size), progress.FormatSize(r.Free), r.Inodes, r.FreeInode, strings.Join(r.Features, " "))
	return err
}

// uuidString writes a UUID as RFC 9562 does.
func uuidString(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}
