package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/inspect"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

func newInspect() *cobra.Command {
	c := &cobra.Command{
		Use:   "inspect",
		Short: "Look inside an image without mounting it",
		Long: `Look inside an ext4 image, or the root file system of an out folder, without mounting it and without
privileges. Checksums are verified.`,
		Example: `  sov inspect ls out/sql/arm64 /etc
  sov inspect cat out/sql/arm64 /etc/sov/postgres/postgresql.conf
  sov inspect tree --size out/sql/arm64 /usr
  sov inspect packages sql
  sov inspect services sql
  sov inspect config out/sql/arm64`,
	}
	c.AddCommand(newInspectLs(), newInspectCat(), newInspectStat(), newInspectTree(), newInspectPackages(), newInspectServices(), newInspectConfig())
	return c
}

// findBuilt replaces each argument that names a machine with the folder of its build.
func findBuilt(args []string) (err error) {
	for i := range args {
		if args[i], err = built.Find(args[i]); err != nil {
			return usagef("%w", err)
		}
	}
	return nil
}

// withImage returns a command's run function, which calls f with the image that the first argument
// names.
func withImage(f func(c *cobra.Command, filesystem *ext4.FS, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := findBuilt(args[:1]); err != nil {
			return err
		}
		img, err := built.OpenImage(args[0])
		if err != nil {
			return err
		}
		defer img.Close()
		return insideImage(args[0], f(c, img.FS, args))
	}
}

// insideImage adds the image's path to an error, and a hint if a path does not exist in the image.
func insideImage(image string, err error) error {
	path := new(fs.PathError)
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &path):
		return fmt.Errorf("%s: %w", image, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: /%s: %w: `sov inspect tree %[1]s` shows what there is", image, path.Path, path.Err)
	}
	return fmt.Errorf("%s: /%s: %w: `sov inspect ls %[1]s /%[2]s` lists it", image, path.Path, path.Err)
}

func newInspectCat() *cobra.Command {
	return &cobra.Command{
		Use:     "cat IMAGE PATH...",
		Short:   "Print files",
		Example: "  sov inspect cat out/sql/arm64 /etc/os-release",
		Args:    cobra.MinimumNArgs(2),
		RunE: withImage(func(c *cobra.Command, filesystem *ext4.FS, args []string) error {
			for i := range args[1:] {
				file, err := filesystem.Open(inspect.Inside(args[1+i]))
				if err != nil {
					return err
				}
				_, err = io.Copy(c.OutOrStdout(), file)
				file.Close()
				if err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func newInspectPackages() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "packages IMAGE",
		Short:   "List the installed Alpine packages",
		Example: "  sov inspect packages out/sql/arm64",
		Args:    cobra.ExactArgs(1),
		RunE: withImage(func(c *cobra.Command, filesystem *ext4.FS, args []string) error {
			packages, err := inspect.Packages(filesystem)
			if err != nil {
				return err
			}
			return printResult(c.OutOrStdout(), asJSON, packages, func(p *printer) {
				for _, pkg := range packages {
					p.printf("%-32s %-20s %10s  %s\n", pkg.Name, pkg.Version, progress.FormatSize(pkg.Size), pkg.License)
				}
			})
		}),
	}
	jsonFlag(c, &asJSON)
	return c
}
