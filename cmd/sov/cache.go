package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
		Long: `Look after the cache, which holds what builds have fetched and made: one entry for each result, and its files by
SHA-256. All of it can be removed at any time; builds then take as long as the first one did.`,
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

// entryReport is one cache entry as `--json` prints it.
type entryReport struct {
	Key     string    `json:"key"`
	Stage   string    `json:"stage"`
	Memo    string    `json:"memo,omitempty"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`
	Seconds float64   `json:"seconds"`          // that it took to make
	Disk    int64     `json:"disk"`             // bytes
	Remote  string    `json:"remote,omitempty"` // the remote cache it came from
}

func newEntryReport(e store.Entry) entryReport {
	return entryReport{e.Key, e.Stage, e.Memo, e.Created.UTC(), e.Used.UTC(), e.Took.Seconds(), e.Disk, e.Remote}
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
			entries, err := store.List(c.Context())
			if err != nil {
				return err
			}
			reports := make([]entryReport, 0, len(entries))
			for _, e := range entries {
				reports = append(reports, newEntryReport(e))
			}
			if cc.asJSON {
				return printJSON(c.OutOrStdout(), reports)
			}
			for _, r := range reports {
				name := r.Stage
				if r.Memo != "" {
					name += " " + r.Memo
				}
				if _, err := fmt.Fprintf(c.OutOrStdout(), "%.12s  %s  %10s  %s\n", r.Key, r.Used.Format("2006-01-02 15:04"), progress.FormatSize(r.Disk), name); err != nil {
					return err
				}
			}
			return nil
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
			if cc.asJSON {
				return printJSON(c.OutOrStdout(), usage)
			}
			out := c.OutOrStdout()
			for _, s := range usage.Stages {
				if _, err := fmt.Fprintf(out, "%10s  %4d entries  %s\n", progress.FormatSize(s.Disk), s.Entries, s.Stage); err != nil {
					return err
				}
			}
			if usage.Unreferenced > 0 {
				if _, err := fmt.Fprintf(out, "%10s  left by builds that failed: `sov cache prune` removes it\n", progress.FormatSize(usage.Unreferenced)); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(out, "%10s  in all, %d files in %s\n", progress.FormatSize(usage.Disk), usage.Blobs, store.Dir())
			return err
		},
	}
}

func (cc *cacheCommand) newPrune() *cobra.Command {
	var o store.PruneOptions
	var unusedFor, olderThan, maxSize string
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove leftovers and, if told, entries by age or size",
		Long: `Remove what nothing refers to any more. With --unused-for, --older-than, --max-size or --all entries go too, the least
recently used first. A build that runs is waited for.`,
		Example: `  sov cache prune
  sov cache prune --unused-for 30d --keep-last
  sov cache prune --max-size 10GiB --keep sql --keep mine/arm64 --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, limit := range []struct {
				flag, text string
				since      *time.Time
			}{{"unused-for", unusedFor, &o.UnusedSince}, {"older-than", olderThan, &o.MadeBefore}} {
				if limit.text == "" {
					continue
				}
				age, err := parseAge(limit.text)
				if err != nil {
					return &usageError{fmt.Errorf("--%s %s: %w", limit.flag, limit.text, err)}
				}
				*limit.since = time.Now().Add(-age)
			}
			o.KeepScopes = o.Keep // a key is no recipe's name, nor the other way round
			if maxSize != "" {
				var err error
				if o.MaxDisk, err = parseSize(maxSize); err != nil {
					return &usageError{fmt.Errorf("--max-size %s: %w", maxSize, err)}
				}
			}
			o.OnWait = func() { fmt.Fprintln(c.ErrOrStderr(), "prune: waiting for a build that runs") }
			store, err := cc.open()
			if err != nil {
				return err
			}
			result, err := store.Prune(c.Context(), o)
			if err != nil {
				return err
			}
			return cc.printPruned(c, result, o.DryRun)
		},
	}
	flags := c.Flags()
	flags.StringVar(&unusedFor, "unused-for", "", "remove entries not used for this long, such as 12h or 30d")
	flags.StringVar(&olderThan, "older-than", "", "remove entries made longer ago than this, used or not, such as 90d")
	flags.StringVar(&maxSize, "max-size", "", "remove entries until the cache takes no more than this, such as 10GiB")
	flags.BoolVar(&o.All, "all", false, "remove every entry")
	flags.StringArrayVar(&o.Keep, "keep", nil, "what to keep: a recipe (sql or sql/arm64), for what its last build used, or an entry's key; may be repeated")
	flags.BoolVar(&o.KeepLast, "keep-last", false, "keep what the last build of each recipe used")
	flags.BoolVar(&o.DryRun, "dry-run", false, "say what would go and remove nothing")
	return c
}

func (cc *cacheCommand) printPruned(c *cobra.Command, result store.PruneResult, dryRun bool) error {
	if cc.asJSON {
		reports := make([]entryReport, 0, len(result.Entries))
		for _, e := range result.Entries {
			reports = append(reports, newEntryReport(e))
		}
		return printJSON(c.OutOrStdout(), map[string]any{"entries": reports, "blobs": result.Blobs, "disk": result.Disk, "dry_run": dryRun})
	}
	verb := "removed"
	if dryRun {
		verb = "would remove"
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s %d entries and %d files, %s\n", verb, len(result.Entries), result.Blobs, progress.FormatSize(result.Disk))
	return err
}

func (cc *cacheCommand) newVerify() *cobra.Command {
	var repair bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Hash every file of the cache and compare",
		Long: `Read every record and hash every file of the cache. With --repair what is damaged is removed, and the next build makes
it again.

Exit status: 0 when the cache is sound, 3 when it is not.`,
		Example: "  sov cache verify\n  sov cache verify --repair",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := cc.open()
			if err != nil {
				return err
			}
			result, err := s.Verify(c.Context(), store.VerifyOptions{Repair: repair})
			if err != nil {
				return err
			}
			return cc.printVerified(c, result)
		},
	}
	c.Flags().BoolVar(&repair, "repair", false, "remove what is damaged")
	return c
}

func (cc *cacheCommand) printVerified(c *cobra.Command, result store.VerifyResult) error {
	if cc.asJSON {
		if err := printJSON(c.OutOrStdout(), result); err != nil {
			return err
		}
	} else {
		for _, p := range result.Problems {
			verdict := "damaged"
			if p.Repaired {
				verdict = "removed"
			}
			if _, err := fmt.Fprintf(c.OutOrStdout(), "%s %s: %s\n", verdict, p.Path, p.What); err != nil {
				return err
			}
		}
		if result.Away > 0 {
			if _, err := fmt.Fprintf(c.OutOrStdout(), "%d files are in remote caches and have not been needed here\n", result.Away); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(c.OutOrStdout(), "checked %d entries and %d files, %s\n", result.Entries, result.Blobs, progress.FormatSize(result.Bytes)); err != nil {
			return err
		}
	}
	if n := len(result.Problems); n > 0 {
		return &foundError{fmt.Sprintf("%d problem(s) in the cache", n)}
	}
	return nil
}

// parseAge reads a duration, with days ("30d") beside the units of time.ParseDuration.
func parseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, errors.New("want a number of days such as 30d")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	age, err := time.ParseDuration(text)
	if err != nil || age < 0 {
		return 0, errors.New("want a time such as 12h or 30d")
	}
	return age, nil
}

// sizeUnits are the factors of parseSize.
var sizeUnits = map[string]int64{
	"": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// parseSize reads a number of bytes with a decimal or binary unit: 512MB, 10GiB.
func parseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "kKMGTiB")
	unit, known := sizeUnits[text[len(number):]]
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !known || n <= 0 || n > math.MaxInt64/unit {
		return 0, errors.New("want a size such as 512MB or 10GiB")
	}
	return n * unit, nil
}
