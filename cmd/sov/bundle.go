package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/offlinebundle"
	"github.com/sovereign-sql/sov/stages/resolve"
)

func newBundle() *cobra.Command {
	var f struct {
		resolve.Options
		file, progress string
		asJSON         bool
	}
	c := &cobra.Command{
		Use:   "bundle RECIPE -o FILE",
		Short: "Write everything that a locked build reads into one file",
		Long: `Write one file with everything that a build of the recipe reads from outside, as the lock has it: base image, packages, the
kernel's source, Tailscale's modules, the recipe and the lock. "sov build --bundle FILE --offline" makes the same machine of
it where there is no network, and years later, when mirrors have gone on. Compilers and Go are not in it.

What the cache does not have is fetched. The same lock gives the same file.`,
		Example: `  sov bundle sql -o sql.sovbundle
  sov bundle sql --arch amd64 -o sql-amd64.sovbundle
  sov build sql --bundle sql.sovbundle --offline`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if err := errors.Join(checkArch(f.Arch), excludeEachOther(c, "kernel", "with-kernel-source")); err != nil {
				return err
			}
			if f.file == "" {
				return &usageError{errors.New("-o FILE: name the file to write")}
			}
			if f.Recipe, f.RecipeText, err = stages.LoadRecipe(args[0]); err != nil {
				return err
			}
			if f.LockPath == "" {
				f.LockPath = lockBeside(args[0])
			}
			if f.CacheDir == "" {
				if f.CacheDir, err = cacheDir(); err != nil {
					return err
				}
			}
			if f.Reporter, err = progress.NewReporter(f.progress, c.ErrOrStderr(), os.Getenv); err != nil {
				return &usageError{err}
			}
			report, err := offlinebundle.Write(c.Context(), f.Options, f.file)
			if err = errors.Join(err, f.Reporter.Close()); err != nil {
				return err
			}
			if f.asJSON {
				return printJSON(c.OutOrStdout(), report)
			}
			return printBundle(c, report, f.LockPath)
		},
	}
	flags := c.Flags()
	lockedFlags(c, &f.Options, &f.progress, &f.asJSON)
	flags.StringVarP(&f.file, "output", "o", "", "file to write")
	flags.BoolVar(&f.Offline, "offline", false, "use no network: what the caches do not hold is an error")
	flags.StringVar(&f.Kernel, "kernel", "", "a finished kernel, as for the build: no kernel source goes into the bundle")
	return c
}

func printBundle(c *cobra.Command, r *offlinebundle.Report, lockPath string) error {
	var kinds []string
	for kind, n := range r.Items {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(kinds)
	if r.LockWritten {
		if _, err := fmt.Fprintf(c.OutOrStdout(), "wrote %s: commit it\n", lockPath); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "wrote %s, %s: %s\n", r.Path, progress.FormatSize(r.Size), strings.Join(kinds, ", "))
	return err
}
