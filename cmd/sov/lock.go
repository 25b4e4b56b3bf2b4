package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/host/build"
	"github.com/sovereign-sql/sov/internal/host/cves"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// lockFlags are the flags of `sov lock` that are not build options.
type lockFlags struct {
	recipeFlags
	update []string
	check  bool
	why    string
	cves   string
}

func newLock() *cobra.Command {
	var f lockFlags
	c := &cobra.Command{
		Use:   "lock RECIPE",
		Short: "Compare the lock with newer versions, update it, or explain a package in it",
		Long: `Compare the lock with the newest versions of the base image, the packages, the kernel's source and
Tailscale. This changes nothing, except that a recipe without a lock entry gets one.

--update updates one thing to its newest version and keeps everything else: a package with those
dependencies that must change with it, "image", "kernel", "tailscale", "files" (of the recipe), or
"all". The lock has one line for each package, so a review shows the changes. PostgreSQL is updated
to a new major version only if postgres.major in the recipe, or --set postgres.major=N, requests it;
then upgrade the databases on phones with sov upgrade.

--cves compares the lock (Alpine's packages, the kernel, the modules of Tailscale) with a database
of known vulnerabilities: Alpine's security database or advisories in the OSV format. The exit
status is 3 if it finds one that the recipe does not list under cves.ignore.

--check is for CI: the exit status is 3 if something is newer, or if the lock does not match the
recipe. --why prints the chain of dependencies from the recipe or the base image to a package.`,
		Example: `  sov lock sql
  sov lock sql --check
  sov lock sql --update postgresql17 --update image
  sov lock sql --why icu-libs
  sov lock sql --cves https://secdb.alpinelinux.org/v3.22/main.json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE:              func(c *cobra.Command, args []string) error { return runLock(c, args[0], f) },
	}
	flags := c.Flags()
	lockedFlags(c, &f.recipeFlags)
	variantFlags(c, &f.recipeFlags)
	flags.StringSliceVar(&f.update, "update", nil, "what to update to the newest version: a package, image, kernel, tailscale, files or all; may be repeated")
	flags.BoolVar(&f.check, "check", false, "exit with status 3 if something is newer, or the lock does not match the recipe")
	flags.StringVar(&f.why, "why", "", "explain why this package is in the lock")
	flags.StringVar(&f.cves, "cves", "", "report known vulnerabilities from this database: a file or a URL")
	flags.BoolVar(&f.Offline, "offline", false, "do not use the network: works with --why if the cache has the packages")
	flags.StringVar(&f.Kernel, "kernel", "", "a compiled kernel, as for the build: its source is not checked")
	complete(c, "update", resolve.UpdateAll, resolve.UpdateImage, resolve.UpdateKernel, resolve.UpdateTailscale, resolve.UpdateFiles)
	return c
}

func runLock(c *cobra.Command, recipe string, f lockFlags) (err error) {
	if err := checkArch(f.Arch); err != nil {
		return err
	}
	if err := excludeEachOther(c, [2]string{"update", "check"}, [2]string{"update", "why"}, [2]string{"check", "why"}, [2]string{"cves", "update"}, [2]string{"cves", "check"}, [2]string{"cves", "why"}, kernelFlags); err != nil {
		return err
	}
	if err := f.load(recipe); err != nil {
		return err
	}
	var why build.Why
	var report *resolve.Report
	var known *cves.Report
	err = withReporter(c, f.progress, func(reporter progress.Reporter) (err error) {
		f.Reporter = reporter
		switch {
		case f.why != "":
			why, err = build.WhyPackage(c.Context(), f.Options.Options, f.why)
		case f.cves != "":
			known, err = build.CVEs(c.Context(), f.Options.Options, f.cves, time.Now())
		default:
			report, err = build.Lock(c.Context(), f.Options.Options, f.update, f.check)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case report != nil:
		return f.printLock(c, report, recipe)
	case known != nil:
		err := printResult(c.OutOrStdout(), f.asJSON, known, func(p *printer) { printCVEs(p, known) })
		return orFound(err, known.Open() > 0, "%d known vulnerabilities in recipe %s for %s", known.Open(), f.Recipe.Name, f.Arch)
	}
	return printResult(c.OutOrStdout(), f.asJSON, why, func(p *printer) { printWhy(p, why) })
}

func (f *lockFlags) printLock(c *cobra.Command, r *resolve.Report, recipe string) error {
	stale := ""
	if r.Stale != nil {
		stale = r.Stale.Error()
	}
	value := map[string]any{"lock": f.LockPath, "arch": f.Arch, "stale": stale,
		"changes": append([]lock.Change{}, r.Changes...), "written": r.Written}
	if r.NewerPostgres != 0 {
		value["newer_postgres"] = r.NewerPostgres
	}
	err := printResult(c.OutOrStdout(), f.asJSON, value, func(p *printer) { f.printChanges(p, r, recipe) })
	switch {
	case err != nil:
		return err
	case r.Stale != nil && f.check:
		return foundf("%s", stale)
	case r.Stale != nil:
		return r.Stale
	case f.check && len(r.Changes) > 0:
		return foundf("%s: %d newer for recipe %s on %s", f.LockPath, len(r.Changes), f.Recipe.Name, f.Arch)
	}
	return nil
}

func (f *lockFlags) printChanges(p *printer, r *resolve.Report, recipe string) {
	for _, c := range r.Changes {
		p.printf("%v\n", c)
	}
	if r.To != 0 {
		p.printf("PostgreSQL %d becomes %d: databases of %[1]d on phones need `sov upgrade %[3]s`\n", r.From, r.To, f.Recipe.Name)
	}
	if r.NewerPostgres != 0 {
		p.printf("PostgreSQL %d is available, and the lock keeps its own major version: --update all --set postgres.major=%[1]d updates it\n", r.NewerPostgres)
	}
	switch {
	case r.Stale != nil: // the error reports it
	case r.Written:
		p.printf("wrote %s: review and commit it\n", f.LockPath)
	case len(f.update) > 0:
		p.printf("%s has the newest already\n", f.LockPath)
	case len(r.Changes) == 0:
		p.printf("nothing is newer than %s\n", f.LockPath)
	default:
		p.printf("%d newer; sov lock %s --update NAME takes one, --update all takes all\n", len(r.Changes), recipe)
	}
}

func printCVEs(p *printer, r *cves.Report) {
	for _, v := range r.Vulnerabilities {
		p.printf("%s  %s %s", v.ID, v.Name, v.Version)
		if len(v.Packages) > 0 && !slices.Equal(v.Packages, []string{v.Name}) {
			p.printf(" (%s)", strings.Join(v.Packages, ", "))
		}
		if v.Fixed != "" {
			p.printf(", fixed in %s", v.Fixed)
		}
		if v.Ignored != "" {
			p.printf("; ignored")
			if v.Until != "" {
				p.printf(" until %s", v.Until)
			}
			p.printf(": %s", v.Ignored)
		}
		p.printf("\n")
	}
	for _, id := range r.Unused {
		p.printf("cves.ignore has %s, which nothing in the lock has, or which has ended: remove it\n", id)
	}
	p.printf("%d of %d known vulnerabilities are open, in %d components\n", r.Open(), len(r.Vulnerabilities), r.Components)
}

func printWhy(p *printer, w build.Why) {
	p.printf("%s %s\n", w.Name, w.Version)
	for _, chain := range w.Chains {
		for i, l := range chain {
			p.printf("  %s%s %s (%s)\n", strings.Repeat("  ", i), l.Package, l.Version, l.Reason)
		}
	}
	if len(w.Chains) == 0 {
		p.printf("  the base image has it, and nothing else needs it\n")
	}
}
