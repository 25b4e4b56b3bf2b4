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

// A cacheCommand is what the commands below `sov cache` share.
type cacheCommand struct {
	dir    string
	asJSON bool
}

func newCache() *cobra.Command {
	var cc cacheCommand
	c := &cobra.Command{
		Use:   "cache",
		Short: "Look after the cache: ls, du, prune, verify, export, import, push, pull",
		Long: `Look after the cache, which holds what builds have fetched and made: one entry for each result, and
its files by SHA-256. All of it can be removed at any time; builds then take as long as the first
one did.`,
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
		Short:   "Say what the cache takes, by stage",
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
		Short: "Remove leftovers and, if told, entries by age or size",
		Long: `Remove what nothing refers to any more. With --unused-for, --older-than, --max-size or --all entries
go too, the least recently used first. A build that runs is waited for.`,
		Example: `  sov cache prune
  sov cache prune --unused-for 30d --keep-last
  sov cache prune --max-size 10GiB --keep sql --keep mine/arm64 --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := limits.Set(&o, time.Now()); err != nil {
				return &usageError{err}
			}
			o.KeepScopes = o.Keep // a key is no recipe's name, nor the other way round
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
	flags.StringVar(&limits.OlderThan, "older-than", "", "remove entries made longer ago than this, used or not, such as 90d")
	flags.StringVar(&limits.MaxSize, "max-size", "", "remove entries until the cache takes no more than this, such as 10GiB")
	flags.BoolVar(&o.All, "all", false, "remove every entry")
	flags.StringArrayVar(&o.Keep, "keep", nil, "what to keep: a recipe (sql or sql/arm64), for what its last build used, or an entry's key; may be repeated")
	flags.BoolVar(&o.KeepLast, "keep-last", false, "keep what the last build of each recipe used")
	flags.BoolVar(&o.DryRun, "dry-run", false, "say what would go and remove nothing")
	return c
}

func (cc *cacheCommand) newVerify() *cobra.Command {
	var repair bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Hash every file of the cache and compare",
		Long: `Read every record and hash every file of the cache. With --repair what is damaged is removed, and
the next build makes it again.

Exit status: 0 when the cache is sound, 3 when it is not.`,
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
	c.Flags().BoolVar(&repair, "repair", false, "remove what is damaged")
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
