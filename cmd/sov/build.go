package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/host/build"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/group"
	"github.com/sovereign-sql/sov/internal/host/release"
	"github.com/sovereign-sql/sov/internal/host/settings"
	"github.com/sovereign-sql/sov/internal/host/signing"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/stages/formats"
)

// buildFlags are the flags of `sov build` that are not build options themselves.
type buildFlags struct {
	recipeFlags
	explain      bool
	signKey      string
	passphrase   passphraseFile
	bundleKey    string
	reproducible bool
	cacheFrom    []string
	cacheTo      []string
	cacheKeys    []string
	allowCache   bool
	group        string   // the machine's group; empty: the recipe's group
	after        []string // machines of the group that must be ready first
}

func newBuild() *cobra.Command {
	var f buildFlags
	c := &cobra.Command{
		Use:   "build [RECIPE...]",
		Short: "Build a virtual machine from a recipe",
		Long: `Build a virtual machine from a recipe into OUT/NAME/ARCH: root file system, kernel, vm.json,
manifest, SBOM, provenance.

RECIPE is the name of a built-in recipe such as sql, the path of a YAML file (see docs/recipe.md),
or a group file, which lists machines that become peers (see "several machines" in docs/tasks.md).
With --bundle, the default is the recipe in the bundle. Several recipes and several architectures
(--arch arm64,amd64) are all checked first and then built one after the other, until one fails.
--json then prints a list.

The first build resolves what the recipe leaves open (the image's tag, the newest packages, the
kernel's source) and writes it to the lock. Every later build uses these versions, so that the same
lock gives the same bytes on every computer. --update-lock resolves again. Stages whose inputs have
not changed come from the cache.

--check-reproducible builds two more times from the same downloads, each in an empty folder with an
empty cache: every stage runs, and kernel and Tailscale are compiled. sov prints the file and the
offset of the first difference between the three results, and in the root file system also the path.
A machine that is not reproducible is not signed.

Remote caches share results between computers. sov downloads from --cache-from what the local cache
lacks, and uploads new results to --cache-to. If a remote cache fails, sov warns and the build
continues. Pinned inputs are always compared with the lock, but a remote cache could replace other
results. With --cache-key, sov uses only results that are signed with one of these keys, and a
private key also signs uploads. --sign refuses a machine that contains unsigned results of a remote
cache; out/NAME/ARCH/taken.json lists the results and their sources.`,
		Example: `  sov build sql
  sov build sql --arch amd64 --explain
  sov build sql ./web.yaml --arch arm64,amd64
  sov build ./web.yaml --profile dev --set vm.memory=2GiB
  sov build sql --update-lock
  sov build ./mine.yaml -o out --progress json
  sov build sql --image postgres:17-alpine
  sov build sql --kernel ./Image
  sov build sql --sign release.pem
  sov build sql --format module
  sov build sql --bundle sql.sovbundle --offline
  sov build sql --cache-from registry.example.com/team/cache --cache-to registry.example.com/team/cache
  sov build sql --cache-from registry.example.com/team/cache --cache-key team.pub`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && f.Bundle == "" {
				return errors.New("RECIPE is missing: type `sov build sql`")
			}
			return nil
		},
		ValidArgsFunction: recipeList,
		RunE: func(c *cobra.Command, args []string) error {
			targets, err := buildTargets(args)
			if err != nil {
				return err
			}
			return buildAll(c, targets, f)
		},
	}
	flags := c.Flags()
	f.add(c)
	flags.Lookup("arch").Usage = "the guest's architecture: " + arch.Allowed() + ", or both with a comma between"
	variantFlags(c, &f.recipeFlags)
	flags.StringVarP(&f.Out, "out", "o", "out", "folder for artifacts")
	flags.BoolVar(&f.UpdateLock, "update-lock", false, "resolve everything again and rewrite the lock")
	flags.StringVar(&f.Bundle, "bundle", "", "a file written by sov bundle; its contents are used before the network. Its lock is used when the lock file has no entry")
	flags.StringVar(&f.bundleKey, "key", "", "require that the bundle is signed with this public key (see sov bundle --sign)")
	flags.BoolVar(&f.Offline, "offline", false, "do not use the network: fail if something is neither in the cache nor in the bundle")
	flags.BoolVar(&f.NoCache, "no-cache", false, "run every stage, even if the cache has its result")
	flags.StringArrayVar(&f.cacheFrom, "cache-from", nil, "remote cache to read: HOST/REPOSITORY or type=dir,src=PATH; may be repeated (default: $SOV_CACHE_FROM)")
	flags.StringArrayVar(&f.cacheTo, "cache-to", nil, "remote cache to fill: HOST/REPOSITORY or type=dir,dest=PATH, with ,mode=min or ,mode=max (the default); may be repeated (default: $SOV_CACHE_TO)")
	cacheKeyFlags(c, &f.cacheKeys, &f.passphrase, &f.allowCache)
	flags.IntVar(&f.Jobs, "jobs", runtime.NumCPU(), "number of stages to run in parallel")
	flags.BoolVar(&f.explain, "explain", false, "print for each stage its key, hit or miss, and what changed since the last build")
	flags.BoolVar(&f.asJSON, "json", false, "print the result as JSON")
	flags.StringVar(&f.Image, "image", "", "base image instead of the recipe's: a reference, oci:DIR or a tarball (default: $SOV_IMAGE, see sov config)")
	flags.StringArrayVar(&f.Repositories, "repository", nil, "package repository instead of the recipe's; may be repeated (default: $SOV_REPOSITORIES, see sov config)")
	flags.StringVar(&f.Kernel, "kernel", "", "a compiled kernel (arm64 Image, amd64 bzImage) to use instead of building one")
	flags.StringVar(&f.KernelSource, "with-kernel-source", "", "kernel source: a path, a URL or deb:NAME")
	flags.BoolVar(&f.reproducible, "check-reproducible", false, "build twice more in empty folders with empty caches, and compare: exit status 3 on any difference")
	flags.StringSliceVar(&f.Formats, "format", nil, "also make: module (a zip for root managers), simg (Android sparse image), raw.zst, disk (a disk that boots under UEFI); may be repeated")
	flags.StringVar(&f.signKey, "sign", "", "sign the artifact with this private key, with a serial as sov sign chooses it (see sov key)")
	complete(c, "format", formats.Names()...)
	return c
}

// nextOfBuilt prints which command comes next for a machine that was built in the folder out.
func nextOfBuilt(c *cobra.Command, asJSON bool, out, name, architecture string) {
	named := out == "out" // other commands find the machine by its name
	if !named {
		name = filepath.Join(out, name, architecture)
	}
	switch {
	case architecture == arch.ARM64: // a phone's architecture
		next(c, asJSON, "sov", "push", name, "--start")
	case named:
		next(c, asJSON, "sov", "run", name, "--arch", architecture)
	default:
		next(c, asJSON, "sov", "run", name)
	}
}

// notBuilt returns the error for a machine that was not built in the folder where a command expects
// it.
func notBuilt(dir, recipe, architecture string) error {
	words := []string{"sov", "build", recipe}
	if architecture != arch.ARM64 {
		words = append(words, "--arch", architecture)
	}
	what := "does not exist"
	if exists(dir) {
		what = "lacks a file of the machine"
	}
	return fmt.Errorf("%s %s: build it with `%s`", dir, what, device.Quote(words))
}

// A buildTarget is a variant of a recipe and the group of its machine.
type buildTarget struct {
	group.Machine
	group string
}

// buildTargets returns the recipes that the arguments name, including those of groups.
func buildTargets(args []string) (targets []buildTarget, err error) {
	if len(args) == 0 {
		return []buildTarget{{}}, nil // the bundle's recipe
	}
	for _, name := range args {
		g, err := group.Load(name)
		if err != nil {
			return nil, err
		}
		if g == nil {
			targets = append(targets, buildTarget{Machine: group.Machine{Recipe: name}})
		} else {
			targets = append(targets, targetsOf(g)...)
		}
	}
	return targets, nil
}

func targetsOf(g *group.Group) (targets []buildTarget) {
	for _, m := range g.Machines {
		targets = append(targets, buildTarget{m, g.Name})
	}
	return targets
}

// buildAll builds each recipe for each architecture, after it has validated all of them.
func buildAll(c *cobra.Command, targets []buildTarget, f buildFlags) error {
	arches := strings.Split(f.Arch, ",")
	if several := len(targets)*len(arches) > 1; several && (f.Bundle != "" || len(arches) > 1 && f.Kernel != "") {
		return usagef("--bundle and --kernel are for one machine and one architecture: build one after the other")
	}
	var builds []*buildFlags
	from := map[string]string{}
	for _, t := range targets {
		for _, architecture := range arches {
			name, one := t.Recipe, f
			one.Arch, one.group, one.after = architecture, t.group, t.After
			one.profiles, one.set = slices.Concat(t.Profiles, f.profiles), slices.Concat(t.Set, f.set)
			if err := one.prepare(c, name); err != nil {
				return err
			}
			machine := one.Recipe.Name
			if before, ok := from[machine]; ok && before != name {
				return usagef("%s and %s are both recipes of the machine %s: give one of them another name", before, name, machine)
			}
			from[machine] = name
			builds = append(builds, &one)
		}
	}
	if len(builds) == 1 {
		one := builds[0]
		if err := one.run(c, one.print); err != nil {
			return err
		}
		nextOfBuilt(c, one.asJSON, one.Out, one.Recipe.Name, one.Arch)
		return nil
	}
	reports := []*build.Report{}
	for _, one := range builds {
		if err := one.run(c, func(c *cobra.Command, r *build.Report) error {
			if reports = append(reports, r); f.asJSON {
				return nil
			}
			return one.print(c, r)
		}); err != nil {
			return err
		}
	}
	if f.asJSON {
		return printJSON(c.OutOrStdout(), reports)
	}
	return nil
}

// runBuild builds one machine and sets the recipe in f.
func runBuild(c *cobra.Command, name string, f *buildFlags) error {
	if err := f.prepare(c, name); err != nil {
		return err
	}
	return f.run(c, f.print)
}

// prepare checks the flags and loads the recipe.
func (f *buildFlags) prepare(c *cobra.Command, name string) (err error) {
	if err := checkArch(f.Arch); err != nil {
		return err
	}
	if err := excludeEachOther(c, kernelFlags, [2]string{"offline", "update-lock"}, [2]string{"bundle", "update-lock"}); err != nil {
		return err
	}
	if err := formats.Check(f.Formats); err != nil {
		return usagef("--format: %w", err)
	}
	if f.Jobs < 1 {
		return usagef("--jobs %d: at least one stage has to run", f.Jobs)
	}
	if f.bundleKey != "" {
		if f.Bundle == "" {
			return usagef("--key %s: it says who must have signed the bundle: name one with --bundle", f.bundleKey)
		}
		if f.BundleKey, err = dsse.LoadPublic(f.bundleKey); err != nil {
			return err
		}
	}
	if err := f.load(name); err != nil {
		return refusedIsFound(err)
	}
	if f.group != "" {
		f.Recipe.Join(f.group, f.after)
	}
	f.Builder = release.Name(version)
	return nil
}

// run builds the machine and prints the report with print.
func (f *buildFlags) run(c *cobra.Command, print func(*cobra.Command, *build.Report) error) error {
	unseal, err := f.passphrase.unseal(c.Context())
	if err != nil {
		return err
	}
	if f.Remotes, err = build.Remotes(f.settings.Get(settings.CacheFrom, f.cacheFrom...), f.settings.Get(settings.CacheTo, f.cacheTo...),
		f.settings.Get(settings.CacheKey, f.cacheKeys...), unseal, f.Offline, os.Getenv); err != nil {
		return &usageError{err}
	}
	var signer *signing.Signer
	if f.signKey != "" { // first, because a build that cannot be signed is useless
		if signer, err = newSigner(c.Context(), f.signKey, f.passphrase, 0); err != nil {
			return err
		}
	}
	var report *build.Report
	err = withReporter(c, f.progress, func(reporter progress.Reporter) (err error) {
		f.Reporter = reporter
		report, err = build.Run(c.Context(), build.Options{Options: f.Options, CheckReproducible: f.reproducible, Sign: signer, AllowUnsigned: f.allowCache})
		return err
	})
	if err != nil {
		return refusedIsFound(err)
	}
	err = print(c, report)
	if rebuilt := report.Reproducible; rebuilt != nil {
		return orFound(err, !rebuilt.Identical, "the build is not reproducible: %s differ", rebuilt.Between)
	}
	return err
}

func (f *buildFlags) print(c *cobra.Command, report *build.Report) error {
	if f.explain && !f.asJSON {
		if err := report.Result.WriteExplanation(c.OutOrStdout()); err != nil {
			return err
		}
	}
	return printResult(c.OutOrStdout(), f.asJSON, report, func(p *printer) { printBuild(p, report, f.LockPath) })
}

// refusedIsFound returns the error of an invalid signature as a check's finding.
func refusedIsFound(err error) error {
	if errors.Is(err, dsse.ErrRefused) {
		return foundf("%v", err)
	}
	return err
}

func printBuild(p *printer, r *build.Report, lockPath string) {
	if r.LockWritten {
		p.printf("wrote %s: commit it, and every build makes the same bytes\n", lockPath)
	}
	if !slices.ContainsFunc(r.Files, func(f build.File) bool { return f.Changed }) {
		p.printf("%s is up to date (%.2f s)\n", r.Dir, r.Seconds)
	} else {
		for _, file := range r.Files {
			p.printf("  %-16s %10s  %.19s…\n", file.Name, progress.FormatSize(file.Size), file.Digest)
		}
		p.printf("%s is ready (%.1f s)\n", r.Dir, r.Seconds)
	}
	switch rebuilt := r.Reproducible; {
	case rebuilt == nil:
	case rebuilt.Identical:
		p.printf("reproducible: two builds from nothing and this one are the same, byte for byte\n")
	default:
		p.printf("NOT REPRODUCIBLE: %s differ; both are kept below %s\n", rebuilt.Between, rebuilt.Kept)
		printDiff(p, rebuilt.Diff)
	}
}
