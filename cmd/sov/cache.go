package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/cache"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// A cacheCommand holds the flags that the commands below `sov cache` share.
type cacheCommand struct {
	dir    string
	asJSON bool
}

func newCache() *cobra.Command {
	var cc cacheCommand
	c := &cobra.Command{
		Use:   "cache",
		Short: "Manage the cache: ls, du, prune, verify, export, import, push, pull",
		Long: `Manage the cache, which stores the downloads and results of builds: one entry for each result, and
its files by SHA-256. It is safe to remove the cache at any time; the next build then takes as long
as the first one.`,
		Example: `  sov cache du
  sov cache prune --unused-for 30d --keep-last
  sov cache verify --repair
  sov cache export cache.tar
  sov cache push registry.example.com/team/sov-cache`,
	}
	c.PersistentFlags().StringVar(&cc.dir, "cache", "", "cache folder (default: $SOV_CACHE_DIR, else sov in the user's cache folder)")
	c.PersistentFlags().BoolVar(&cc.asJSON, "json", false, "print JSON")
	c.AddCommand(cc.newLs(), cc.newDu(), cc.newPrune(), cc.newVerify(), cc.newExport(), cc.newImport(), cc.newPush(), cc.newPull())
	return c
}

func (cc *cacheCommand) open() (*pipeline.Store, error) {
	dir := cc.dir
	if dir == "" {
		var err error
		if dir, err = cacheDir(); err != nil {
			return nil, err
		}
	}
	return store.Open(dir)
}

func (cc *cacheCommand) newLs() *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List the entries, the most recently used first",
		Example: "  sov cache ls\n  sov cache ls --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			store, err := cc.open()
			if err != nil {
				return err
			}
			found, err := store.List(c.Context())
			if err != nil {
				return err
			}
			entries := cache.Entries(found)
			return printResult(c.OutOrStdout(), cc.asJSON, entries, func(p *printer) {
				for _, e := range entries {
					name := e.Stage
					if e.Memo != "" {
						name += " " + e.Memo
					}
					p.printf("%.12s  %s  %10s  %s\n", e.Key, e.Used.Format("2006-01-02 15:04"), progress.FormatSize(e.Disk), name)
				}
			})
		},
	}
}

func (cc *cacheCommand) newDu() *cobra.Command {
	return &cobra.Command{
		Use:     "du",
		Short:   "Print the cache's disk usage by stage",
		Example: "  sov cache du",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			store, err := cc.open()
			if err != nil {
				return err
			}
			usage, err := store.Usage(c.Context())
			if err != nil {
				return err
			}
			return printResult(c.OutOrStdout(), cc.asJSON, usage, func(p *printer) {
				for _, s := range usage.Stages {
					p.printf("%10s  %4d entries  %s\n", progress.FormatSize(s.Disk), s.Entries, s.Stage)
				}
				if usage.Unreferenced > 0 {
					p.printf("%10s  left by builds that failed: `sov cache prune` removes it\n", progress.FormatSize(usage.Unreferenced))
				}
				p.printf("%10s  in all, %d files in %s\n", progress.FormatSize(usage.Disk), usage.Blobs, store.Dir())
			})
		},
	}
}

func (cc *cacheCommand) newPrune() *cobra.Command {
	var o store.PruneOptions
	var limits cache.Limits
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove unused files and, on request, entries by age or size",
		Long: `Remove files that no entry refers to. With --unused-for, --older-than, --max-size or --all, also
remove entries, the least recently used first. Waits for running builds.`,
		Example: `  sov cache prune
  sov cache prune --unused-for 30d --keep-last
  sov cache prune --max-size 10GiB --keep sql --keep mine/arm64 --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := limits.Set(&o, time.Now()); err != nil {
				return &usageError{err}
			}
			o.KeepScopes = o.Keep // a key cannot be a recipe's name, or vice versa
			o.OnWait = func() { fmt.Fprintln(c.ErrOrStderr(), "prune: waiting for a build that runs") }
			store, err := cc.open()
			if err != nil {
				return err
			}
			result, err := store.Prune(c.Context(), o)
			if err != nil {
				return err
			}
			value := map[string]any{"entries": cache.Entries(result.Entries), "blobs": result.Blobs, "disk": result.Disk, "dry_run": o.DryRun}
			return printResult(c.OutOrStdout(), cc.asJSON, value, func(p *printer) {
				verb := "removed"
				if o.DryRun {
					verb = "would remove"
				}
				p.printf("%s %d entries and %d files, %s\n", verb, len(result.Entries), result.Blobs, progress.FormatSize(result.Disk))
			})
		},
	}
	flags := c.Flags()
	flags.StringVar(&limits.UnusedFor, "unused-for", "", "remove entries not used for this long, such as 12h or 30d")
	flags.StringVar(&limits.OlderThan, "older-than", "", "remove entries older than this, even if they were used, such as 90d")
	flags.StringVar(&limits.MaxSize, "max-size", "", "remove entries until the cache is no larger than this, such as 10GiB")
	flags.BoolVar(&o.All, "all", false, "remove every entry")
	flags.StringArrayVar(&o.Keep, "keep", nil, "keep what the last build of a recipe used (sql or sql/arm64), or the entry with a key; may be repeated")
	flags.BoolVar(&o.KeepLast, "keep-last", false, "keep what the last build of each recipe used")
	flags.BoolVar(&o.DryRun, "dry-run", false, "print what would be removed, and remove nothing")
	return c
}

func (cc *cacheCommand) newVerify() *cobra.Command {
	var repair bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check the hash of every file in the cache",
		Long: `Read every record and check the hash of every file in the cache. With --repair, damaged entries are
removed, and the next build creates them again.

Exit status: 0 if the cache is intact, 3 if an entry is damaged.`,
		Example: "  sov cache verify\n  sov cache verify --repair",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := cc.open()
			if err != nil {
				return err
			}
			var result store.VerifyResult
			err = working(c, "verify", func(ctx context.Context, task *pipeline.Task) (err error) {
				result, err = s.Verify(ctx, store.VerifyOptions{Repair: repair, Progress: task.Set})
				return err
			})
			if err != nil {
				return err
			}
			err = printResult(c.OutOrStdout(), cc.asJSON, result, func(p *printer) { printChecked(p, result) })
			return orFound(err, len(result.Problems) > 0, "%d problem(s) in the cache", len(result.Problems))
		},
	}
	c.Flags().BoolVar(&repair, "repair", false, "remove damaged entries")
	return c
}

func printChecked(p *printer, result store.VerifyResult) {
	for _, problem := range result.Problems {
		verdict := "damaged"
		if problem.Fixed {
			verdict = "removed"
		}
		p.printf("%s %s: %s\n", verdict, problem.Check, problem.Found)
	}
	if result.Away > 0 {
		p.printf("%d files are in remote caches and have not been needed here\n", result.Away)
	}
	p.printf("checked %d entries and %d files, %s\n", result.Entries, result.Blobs, progress.FormatSize(result.Bytes))
}
