package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/sovereign-sql/sov/internal/host/compare"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/spf13/cobra"
)

func newDiff() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two builds, or two images, path by path",
		Long: `Compare two out folders, or two ext4 images. Files are compared byte for byte. If the root file
systems differ, sov lists the paths inside them: added (+), removed (-) and changed (~, with what
changed: content, size, mode, owner, time, target, device, xattrs, links, type). For different
contents, it prints the offset of the first different byte.

Exit status: 0 if they are identical, 3 if they differ.`,
		Example: `  sov diff out/sql/arm64 ../other/out/sql/arm64
  sov diff old.img new.img --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := findBuilt(args); err != nil {
				return err
			}
			var report *compare.Report
			err := working(c, "compare", func(ctx context.Context, _ *pipeline.Task) (err error) {
				report, err = compare.Artifacts(ctx, args[0], args[1])
				return err
			})
			if err != nil {
				return err
			}
			err = printResult(c.OutOrStdout(), asJSON, report, func(p *printer) { printDiff(p, report) })
			return orFound(err, !report.Identical, "%s and %s differ", args[0], args[1])
		},
	}
	jsonFlag(c, &asJSON)
	return c
}

func printDiff(p *printer, r *compare.Report) {
	if r.Identical {
		p.printf("%s\n", compare.Identical)
		return
	}
	for _, f := range r.Files {
		p.printf("%-10s %s%s\n", f.Status, f.Name, atByte(f.At))
	}
	signs := map[string]string{"added": "+", "removed": "-", "changed": "~"}
	for _, change := range r.Changes {
		what := ""
		if len(change.What) > 0 {
			what = " (" + strings.Join(change.What, ", ") + ")"
		}
		p.printf("%s %s%s%s\n", signs[change.Kind], shown("/"+change.Path), what, atByte(change.At))
	}
}

func atByte(at *int64) string {
	if at == nil {
		return ""
	}
	return fmt.Sprintf(", from byte %d on", *at)
}
