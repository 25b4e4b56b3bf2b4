package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/kconfig"
	"github.com/sovereign-sql/sov/internal/manifest"
	"github.com/sovereign-sql/sov/internal/vmspec"
	"github.com/sovereign-sql/sov/kernel"
)

// verifyReport is what `sov verify --json` prints.
type verifyReport struct {
	Dir      string             `json:"dir"`
	Checks   []string           `json:"checks"`   // what was looked at
	Problems []manifest.Problem `json:"problems"` // what was found
}

func newVerify() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify DIR",
		Short: "Check a built machine against its manifest and itself",
		Long: `Check a built machine: every file against the manifest's sizes and SHA-256, the root filesystem against its own
checksums, bitmaps and link counts, the kernel's embedded configuration against what the guest cannot do without.

Exit status: 0 when all is well, 3 with the list of what is not.`,
		Example: `  sov verify out/sql/arm64
  sov verify out/sql/arm64 --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			report, err := verify(c.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(c.OutOrStdout(), report)
			} else {
				err = report.print(c.OutOrStdout())
			}
			if n := len(report.Problems); err == nil && n > 0 {
				err = &foundError{fmt.Sprintf("%s: %d problem(s)", args[0], n)}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func verify(ctx context.Context, dir string) (*verifyReport, error) {
	report := &verifyReport{Dir: dir, Problems: []manifest.Problem{}}
	m, err := manifest.Load(dir)
	if err != nil {
		return nil, notBuilt(err)
	}
	report.Checks = append(report.Checks, fmt.Sprintf("%d files against %s", len(m.Files), manifest.Name))
	report.Problems, err = manifest.Verify(ctx, dir)
	if err != nil {
		return nil, err
	}
	report.Checks = append(report.Checks, "the root filesystem's checksums, bitmaps and links")
	if err := report.rootfs(ctx, dir); err != nil {
		return nil, err
	}
	report.Checks = append(report.Checks, fmt.Sprintf("the kernel's %d required options", len(kernel.Requirements(m.Arch))))
	return report, report.kernel(dir, m.Arch)
}

func (r *verifyReport) found(file, format string, args ...any) {
	r.Problems = append(r.Problems, manifest.Problem{File: file, What: fmt.Sprintf(format, args...)})
}

// rootfs leaves a missing image alone: the manifest's check has named it.
func (r *verifyReport) rootfs(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, rootfsName)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	img, err := openImage(dir)
	if err != nil {
		r.found(rootfsName, "cannot be read: %v", err)
		return nil
	}
	defer img.Close()
	problems, err := img.Check(ctx)
	for _, p := range problems {
		r.found(rootfsName, "%v", p)
	}
	return err
}

func (r *verifyReport) kernel(dir, arch string) error {
	text, err := os.ReadFile(filepath.Join(dir, "vm.json"))
	if err != nil {
		return ignoreMissing(err)
	}
	spec, err := vmspec.Decode(text)
	if err != nil {
		r.found("vm.json", "%v", err)
		return nil
	}
	image, err := kconfig.OpenFile(filepath.Join(dir, spec.Kernel))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.found(spec.Kernel, "%v", err)
		}
		return nil
	}
	text, err = image.Config()
	if err != nil {
		r.found(spec.Kernel, "%v", err)
		return nil
	}
	config, err := kconfig.Parse(text)
	if err != nil {
		r.found(spec.Kernel, "%v", err)
		return nil
	}
	for _, missing := range kernel.Check(arch, config) {
		r.found(spec.Kernel, "%v", missing)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (r *verifyReport) print(w io.Writer) error {
	for _, check := range r.Checks {
		if _, err := fmt.Fprintf(w, "checked %s\n", check); err != nil {
			return err
		}
	}
	for _, p := range r.Problems {
		if _, err := fmt.Fprintf(w, "FAULT %v\n", p); err != nil {
			return err
		}
	}
	if len(r.Problems) > 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s is sound\n", r.Dir)
	return err
}
