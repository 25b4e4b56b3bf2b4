package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/embedded"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/formats"
	"github.com/sovereign-sql/sov/stages/offlinebundle"
)

// buildFlags are the flags of `sov build` that are not options of stages.Build as they are.
type buildFlags struct {
	stages.Options
	progress  string
	explain   bool
	asJSON    bool
	signKey   string
	checkAnew bool
	cacheFrom []string
	cacheTo   []string
}

func newBuild() *cobra.Command {
	var f buildFlags
	c := &cobra.Command{
		Use:   "build [RECIPE]",
		Short: "Build a virtual machine from a recipe",
		Long: `Build a virtual machine from a recipe into OUT/NAME/ARCH: root filesystem, kernel, vm.json, manifest, SBOM,
provenance.

RECIPE is "sql", which comes with sov, or the path of a YAML file (see docs/recipe.md). With --bundle it may be left out:
then it is the recipe in the bundle.

The first build resolves what the recipe leaves open (the image's tag, the newest packages, the kernel's source) and
writes it to the lock. Every later build takes exactly that, so that the same lock gives the same bytes on any machine;
--update-lock resolves anew. Stages whose inputs have not changed come from the cache.

--check-reproducible builds two more times, each in an empty folder with an empty cache, of the same downloads: every stage
runs, kernel and Tailscale are compiled. The first difference between the three is shown by file and offset, in the root
filesystem also by path. A machine that is not reproducible is not signed.

Remote caches share results between computers: --cache-from is asked for what the cache here does not hold, and
--cache-to is given what was made or found. A remote cache that fails costs a warning and some time, never the build.`,
		Example: `  sov build sql
  sov build sql --arch amd64 --explain
  sov build sql --update-lock
  sov build ./mine.yaml -o out --progress json
  sov build sql --image postgres:17-alpine
  sov build sql --kernel ./Image
  sov build sql --sign release.pem
  sov build sql --format module
  sov build sql --bundle sql.sovbundle --offline
  sov build sql --cache-from registry.example.com/team/cache --cache-to registry.example.com/team/cache`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && f.Bundle == "" {
				return errors.New("name a recipe, such as sql")
			}
			return cobra.MaximumNArgs(1)(c, args)
		},
		ValidArgsFunction: recipes,
		RunE:              func(c *cobra.Command, args []string) error { return build(c, strings.Join(args, ""), f) },
	}
	flags := c.Flags()
	archFlag(c, &f.Arch)
	flags.StringVarP(&f.Out, "out", "o", "out", "folder for artifacts")
	flags.StringVar(&f.LockPath, "lock", "", "lock file (default: sov.lock beside the recipe, or here for an embedded one)")
	flags.BoolVar(&f.UpdateLock, "update-lock", false, "resolve everything anew and rewrite the lock")
	flags.StringVar(&f.Bundle, "bundle", "", "a file of sov bundle, from which is taken what it has; its lock counts where the lock file has no entry")
	flags.BoolVar(&f.Offline, "offline", false, "use no network: what neither cache nor bundle holds is an error")
	flags.BoolVar(&f.NoCache, "no-cache", false, "run every stage, whatever the cache holds")
	flags.StringVar(&f.CacheDir, "cache", "", "cache folder (default: $SOV_CACHE_DIR, else sov in the user's cache folder)")
	flags.StringArrayVar(&f.cacheFrom, "cache-from", nil, "remote cache to read: HOST/REPOSITORY or type=dir,src=PATH; may be repeated (default: $SOV_CACHE_FROM)")
	flags.StringArrayVar(&f.cacheTo, "cache-to", nil, "remote cache to fill: HOST/REPOSITORY or type=dir,dest=PATH, with ,mode=min or ,mode=max (the default); may be repeated (default: $SOV_CACHE_TO)")
	flags.IntVar(&f.Jobs, "jobs", runtime.NumCPU(), "stages to run side by side")
	flags.StringVar(&f.progress, "progress", "auto", "how to show progress: auto, tty, plain or json")
	flags.BoolVar(&f.explain, "explain", false, "say for each stage its key, hit or miss, and what changed since the last build")
	flags.BoolVar(&f.asJSON, "json", false, "print the result as JSON")
	flags.StringVar(&f.Image, "image", "", "base image in place of the recipe's: a reference, oci:DIR or a tarball")
	flags.StringArrayVar(&f.Repositories, "repository", nil, "package repository in place of the recipe's; may be repeated")
	flags.StringVar(&f.Kernel, "kernel", "", "a finished kernel (arm64 Image, amd64 bzImage) in place of building one")
	flags.StringVar(&f.KernelSource, "with-kernel-source", "", "kernel source: a path, a URL or deb:NAME")
	flags.BoolVar(&f.checkAnew, "check-reproducible", false, "build twice more from nothing, in empty folders with empty caches, and compare: exit status 3 on any difference")
	flags.StringSliceVar(&f.Formats, "format", nil, "also make: module (a zip for root managers), simg (Android sparse image), raw.zst; may be repeated")
	flags.StringVar(&f.signKey, "sign", "", "sign the artifact with this private key (see sov key)")
	complete(c, "format", formats.Names()...)
	complete(c, "progress", "auto", "tty", "plain", "json")
	return c
}

func build(c *cobra.Command, name string, f buildFlags) (err error) {
	for _, err := range []error{checkArch(f.Arch), excludeEachOther(c, "kernel", "with-kernel-source"), excludeEachOther(c, "offline", "update-lock"), excludeEachOther(c, "bundle", "update-lock")} {
		if err != nil {
			return err
		}
	}
	if err := formats.Check(f.Formats); err != nil {
		return &usageError{fmt.Errorf("--format: %w", err)}
	}
	if f.Jobs < 1 {
		return &usageError{fmt.Errorf("--jobs %d: at least one stage has to run", f.Jobs)}
	}
	if err := f.loadRecipe(name); err != nil {
		return err
	}
	if f.LockPath == "" {
		f.LockPath = lockBeside(name)
	}
	if f.CacheDir == "" {
		if f.CacheDir, err = cacheDir(); err != nil {
			return err
		}
	}
	if f.Remotes, err = remotes(f, os.Getenv); err != nil {
		return &usageError{err}
	}
	f.Program, f.Builder = embedded.Program, version
	sign, err := signer(f.signKey) // before a build whose result could not be signed
	if err != nil {
		return err
	}
	if f.Reporter, err = progress.NewReporter(f.progress, c.ErrOrStderr(), os.Getenv); err != nil {
		return &usageError{err}
	}
	result, err := stages.Build(c.Context(), f.Options)
	var anew *anewReport
	if err == nil && f.checkAnew {
		anew, err = checkReproducible(c.Context(), f.Options, result.Dir)
	}
	if closeErr := f.Reporter.Close(); err == nil {
		err = closeErr
	}
	if err == nil && (anew == nil || anew.Identical) {
		err = sign(result.Dir)
	}
	if err != nil {
		return err
	}
	if f.asJSON {
		report := newBuildReport(result)
		report.Reproducible = anew
		err = printJSON(c.OutOrStdout(), report)
	} else {
		err = printBuild(c.OutOrStdout(), result, f)
		if err == nil && anew != nil {
			err = anew.print(c.OutOrStdout())
		}
	}
	if err == nil && anew != nil && !anew.Identical {
		err = &foundError{"the build is not reproducible: " + anew.Between + " differ"}
	}
	return err
}

// loadRecipe reads the recipe named, or the one in the bundle.
func (f *buildFlags) loadRecipe(name string) (err error) {
	if name != "" {
		f.Recipe, f.RecipeText, err = stages.LoadRecipe(name)
		return err
	}
	if name, f.RecipeText, err = offlinebundle.Recipe(f.Bundle); err == nil {
		f.Recipe, err = recipe.Parse(f.Bundle+": "+name, f.RecipeText)
	}
	return err
}

// signer returns what signs an artifact with the key in a file, or does nothing where no file is named.
func signer(path string) (func(dir string) error, error) {
	if path == "" {
		return func(string) error { return nil }, nil
	}
	key, err := dsse.LoadPrivate(path)
	return func(dir string) error {
		_, err := provenance.Sign(dir, key)
		return err
	}, err
}

// lockBeside is sov.lock in the recipe file's folder, or in this one for an embedded recipe.
func lockBeside(recipe string) string {
	if strings.ContainsRune(recipe, '/') {
		return filepath.Join(filepath.Dir(recipe), "sov.lock")
	}
	return "sov.lock"
}

// buildReport is what `sov build --json` prints.
type buildReport struct {
	Dir         string        `json:"dir"`
	LockWritten bool          `json:"lock_written"`
	Seconds     float64       `json:"seconds"`
	Stages      []stageReport `json:"stages"`
	Files       []builtFile   `json:"files"`

	Reproducible *anewReport `json:"reproducible,omitempty"` // only with --check-reproducible
}

type stageReport struct {
	Name     string   `json:"name"`
	Key      string   `json:"key"`
	Status   string   `json:"status"`           // "cached" or "built"
	Reason   string   `json:"reason,omitempty"` // why it ran
	Remote   string   `json:"remote,omitempty"` // the remote cache it came from
	Seconds  float64  `json:"seconds"`
	Warnings []string `json:"warnings,omitempty"`
}

type builtFile struct {
	Name    string `json:"name"`
	Size    int64  `json:"size"` // bytes
	Digest  string `json:"digest"`
	Changed bool   `json:"changed"` // since the last export to this folder
}

func newBuildReport(r *stages.Result) buildReport {
	report := buildReport{Dir: r.Dir, LockWritten: r.LockWritten, Seconds: r.Elapsed.Seconds()}
	for _, s := range r.Stages {
		report.Stages = append(report.Stages, stageReport{
			Name: s.Name, Key: s.Key, Status: string(s.Status), Reason: s.Reason, Remote: s.Remote, Seconds: s.Elapsed.Seconds(), Warnings: s.Warnings,
		})
	}
	for _, file := range r.Exported {
		report.Files = append(report.Files, builtFile{file.Name, file.Size, string(file.Digest), file.Changed})
	}
	return report
}

func printBuild(w io.Writer, r *stages.Result, f buildFlags) error {
	if f.explain {
		if err := r.WriteExplanation(w); err != nil {
			return err
		}
	}
	if r.LockWritten {
		if _, err := fmt.Fprintf(w, "wrote %s: commit it, and every build makes the same bytes\n", f.LockPath); err != nil {
			return err
		}
	}
	changed := 0
	for _, file := range r.Exported {
		if file.Changed {
			changed++
		}
	}
	if changed == 0 {
		_, err := fmt.Fprintf(w, "%s is up to date (%.2f s)\n", r.Dir, r.Elapsed.Seconds())
		return err
	}
	for _, file := range r.Exported {
		if _, err := fmt.Fprintf(w, "  %-16s %10s  sha256:%.12s…\n", file.Name, progress.FormatSize(file.Size), file.Digest.Hex()); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s is ready (%.1f s)\n", r.Dir, r.Elapsed.Seconds())
	return err
}
