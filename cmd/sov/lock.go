package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// lockFlags are the flags of `sov lock` that are not options of a build.
type lockFlags struct {
	resolve.Options
	update   []string
	check    bool
	why      string
	progress string
	asJSON   bool
}

func newLock() *cobra.Command {
	var f lockFlags
	c := &cobra.Command{
		Use:   "lock RECIPE",
		Short: "Say what is newer than the lock, update it, or why a package is in it",
		Long: `Say what is newer than what the lock has: the base image's digest, packages, the kernel's source, Tailscale. Nothing is
changed, but for a lock that does not know the recipe: that is written.

--update takes what it names in its newest version and leaves everything else where it is: a package (and of those it needs
what has to move), "image", "kernel", "tailscale", or "all". The lock is a list with a line for each package: what --update
changed is what a review of the file sees.

--check is for CI: exit status 3 when something is newer, or when the lock does not answer the recipe. --why shows the way
from what the recipe or the base image asks for to a package.`,
		Example: `  sov lock sql
  sov lock sql --check
  sov lock sql --update postgresql17 --update image
  sov lock sql --why icu-libs`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE:              func(c *cobra.Command, args []string) error { return runLock(c, args[0], f) },
	}
	flags := c.Flags()
	lockedFlags(c, &f.Options, &f.progress, &f.asJSON)
	flags.StringSliceVar(&f.update, "update", nil, "what to take in its newest version: a package, image, kernel, tailscale or all; may be repeated")
	flags.BoolVar(&f.check, "check", false, "exit with status 3 when something is newer, or the lock does not answer the recipe")
	flags.StringVar(&f.why, "why", "", "say why this package is there")
	flags.BoolVar(&f.Offline, "offline", false, "use no network: enough for --why when the cache has the packages")
	flags.StringVar(&f.Kernel, "kernel", "", "a finished kernel, as for the build: its source is not looked at")
	complete(c, "update", resolve.UpdateAll, resolve.UpdateImage, resolve.UpdateKernel, resolve.UpdateTailscale)
	return c
}

// lockedFlags adds what the commands that look at a locked build, and make none, have in common with `sov build`.
func lockedFlags(c *cobra.Command, o *resolve.Options, progress *string, asJSON *bool) {
	flags := c.Flags()
	archFlag(c, &o.Arch)
	flags.StringVar(&o.LockPath, "lock", "", "lock file (default: sov.lock beside the recipe, or here for an embedded one)")
	flags.StringVar(&o.CacheDir, "cache", "", "cache folder (default: $SOV_CACHE_DIR, else sov in the user's cache folder)")
	flags.StringVar(progress, "progress", "auto", "how to show progress: auto, tty, plain or json")
	flags.BoolVar(asJSON, "json", false, "print JSON")
	flags.StringVar(&o.Image, "image", "", "base image in place of the recipe's, as for the build")
	flags.StringArrayVar(&o.Repositories, "repository", nil, "package repository in place of the recipe's, as for the build; may be repeated")
	flags.StringVar(&o.KernelSource, "with-kernel-source", "", "kernel source, as for the build")
	complete(c, "progress", "auto", "tty", "plain", "json")
}

func runLock(c *cobra.Command, recipe string, f lockFlags) (err error) {
	for _, err := range []error{checkArch(f.Arch), excludeEachOther(c, "update", "check"), excludeEachOther(c, "update", "why"),
		excludeEachOther(c, "check", "why"), excludeEachOther(c, "kernel", "with-kernel-source")} {
		if err != nil {
			return err
		}
	}
	if f.Recipe, f.RecipeText, err = stages.LoadRecipe(recipe); err != nil {
		return err
	}
	if f.LockPath == "" {
		f.LockPath = lockBeside(recipe)
	}
	if f.CacheDir == "" {
		if f.CacheDir, err = cacheDir(); err != nil {
			return err
		}
	}
	if f.Reporter, err = progress.NewReporter(f.progress, c.ErrOrStderr(), os.Getenv); err != nil {
		return &usageError{err}
	}
	if f.why != "" {
		reason, err := resolve.Why(c.Context(), f.Options, f.why)
		if err = errors.Join(err, f.Reporter.Close()); err != nil {
			return err
		}
		return f.printReason(c.OutOrStdout(), reason)
	}
	report, err := f.compare(c)
	if err = errors.Join(err, f.Reporter.Close()); err != nil {
		return err
	}
	return f.printLock(c.OutOrStdout(), report, recipe)
}

// compare does what --update or --check ask for, or neither.
func (f *lockFlags) compare(c *cobra.Command) (*resolve.Report, error) {
	if len(f.update) > 0 {
		return resolve.Update(c.Context(), f.Options, f.update)
	}
	report, err := resolve.Newest(c.Context(), f.Options)
	switch {
	case !errors.Is(err, resolve.ErrNoEntry):
		return report, err
	case f.check:
		return &resolve.Report{Stale: err}, nil
	}
	return resolve.Update(c.Context(), f.Options, []string{resolve.UpdateAll})
}

func (f *lockFlags) printLock(w io.Writer, r *resolve.Report, recipe string) error {
	stale := ""
	if r.Stale != nil {
		stale = r.Stale.Error()
	}
	var err error
	if f.asJSON {
		err = printJSON(w, map[string]any{"lock": f.LockPath, "arch": f.Arch, "stale": stale,
			"changes": append([]lock.Change{}, r.Changes...), "written": r.Written})
	} else {
		err = f.printChanges(w, r, recipe)
	}
	switch {
	case err != nil:
		return err
	case r.Stale != nil && f.check:
		return &foundError{stale}
	case r.Stale != nil:
		return r.Stale
	case f.check && len(r.Changes) > 0:
		return &foundError{fmt.Sprintf("%s: %d newer for recipe %s on %s", f.LockPath, len(r.Changes), f.Recipe.Name, f.Arch)}
	}
	return nil
}

func (f *lockFlags) printChanges(w io.Writer, r *resolve.Report, recipe string) error {
	for _, c := range r.Changes {
		if _, err := fmt.Fprintln(w, c); err != nil {
			return err
		}
	}
	var last string
	switch {
	case r.Stale != nil:
		return nil // the error says it
	case r.Written:
		last = fmt.Sprintf("wrote %s: review and commit it", f.LockPath)
	case len(f.update) > 0:
		last = f.LockPath + " has the newest already"
	case len(r.Changes) == 0:
		last = "nothing is newer than " + f.LockPath
	default:
		last = fmt.Sprintf("%d newer; sov lock %s --update NAME takes one, --update all takes all", len(r.Changes), recipe)
	}
	_, err := fmt.Fprintln(w, last)
	return err
}

// whyReport is what `sov lock --why --json` prints.
type whyReport struct {
	Name    string      `json:"name"`
	Version string      `json:"version"`
	Chains  [][]whyLink `json:"chains"` // none: the base image has it and nothing needs it
}

type whyLink struct {
	Package string `json:"package"`
	Version string `json:"version"`
	Reason  string `json:"reason"` // what asks for it
}

func (f *lockFlags) printReason(w io.Writer, r *resolve.Reason) error {
	report := whyReport{Name: r.Package.Name, Version: r.Package.Version, Chains: [][]whyLink{}}
	for _, chain := range r.Chains {
		var links []whyLink
		for i, l := range chain {
			links = append(links, whyLink{l.Package.Name, l.Package.Version, reasonText(l, i, chain, r.Recipe)})
		}
		report.Chains = append(report.Chains, links)
	}
	if f.asJSON {
		return printJSON(w, report)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", report.Name, report.Version)
	for _, chain := range report.Chains {
		for i, l := range chain {
			fmt.Fprintf(&b, "  %s%s %s (%s)\n", strings.Repeat("  ", i), l.Package, l.Version, l.Reason)
		}
	}
	if len(report.Chains) == 0 {
		b.WriteString("  the base image has it, and nothing else needs it\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// reasonText says what asks for a link's package.
func reasonText(l apk.Link, i int, chain []apk.Link, recipe []string) string {
	switch {
	case i == 0 && slices.Contains(recipe, l.Reason.String()):
		return "the recipe asks for " + l.Reason.String()
	case i == 0:
		return "the base image asks for " + l.Reason.String()
	case l.If:
		return "comes along with " + l.Reason.String()
	}
	return chain[i-1].Package.Name + " needs " + l.Reason.String()
}
