package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/credentials"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/remote"
)

func (cc *cacheCommand) newExport() *cobra.Command {
	var last bool
	c := &cobra.Command{
		Use:   "export FILE",
		Short: "Write the cache into one file",
		Long: `Write all entries of the cache, or those of the last builds, into one file that "sov cache import" reads on another
computer. The file appears when it is complete.`,
		Example: "  sov cache export cache.tar\n  sov cache export --last cache.tar",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			archive, err := remote.Create(args[0])
			if err != nil {
				return err
			}
			defer archive.Abort()
			return cc.transfer(c, "export", func(ctx context.Context, s *pipeline.Store, o remote.TransferOptions) (remote.TransferResult, error) {
				o.Last = last
				result, err := remote.Push(ctx, s, archive, o)
				if err == nil {
					err = archive.Commit()
				}
				return result, err
			})
		},
	}
	c.Flags().BoolVar(&last, "last", false, "only what the last build of each recipe used")
	return c
}

func (cc *cacheCommand) newImport() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "Take entries over from a file",
		Long: `Take over what "sov cache export" has written. Every byte is checked against its digest; an entry that is damaged is
left out and named.`,
		Example: "  sov cache import cache.tar",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			archive, file, err := remote.Open(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			return cc.transfer(c, "import", func(ctx context.Context, s *pipeline.Store, o remote.TransferOptions) (remote.TransferResult, error) {
				return remote.Pull(ctx, s, archive, o)
			})
		},
	}
}

func (cc *cacheCommand) newPush() *cobra.Command {
	var last bool
	c := &cobra.Command{
		Use:   "push REMOTE",
		Short: "Send the cache to a registry or a shared folder",
		Long: `Send all entries of the cache, or those of the last builds, to a remote cache: HOST/REPOSITORY in a registry, or
type=dir,dest=PATH. What is there already is not sent again.`,
		Example: "  sov cache push registry.example.com/team/sov-cache\n  sov cache push --last type=dir,dest=/mnt/share/sov-cache",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			spec, err := remote.ParseTarget(args[0])
			if err != nil {
				return &usageError{err}
			}
			cache, err := (&remote.Opener{Keychain: credentials.Keychain(os.Getenv)}).Open(spec)
			if err != nil {
				return &usageError{err}
			}
			return cc.transfer(c, "push", func(ctx context.Context, s *pipeline.Store, o remote.TransferOptions) (remote.TransferResult, error) {
				o.Last = last
				return remote.Push(ctx, s, cache, o)
			})
		},
	}
	c.Flags().BoolVar(&last, "last", false, "only what the last build of each recipe used")
	return c
}

func (cc *cacheCommand) newPull() *cobra.Command {
	return &cobra.Command{
		Use:   "pull REMOTE",
		Short: "Take everything over from a registry or a shared folder",
		Long: `Take over all entries of a remote cache: HOST/REPOSITORY in a registry, or type=dir,src=PATH. Builds need no pull:
with --cache-from they fetch what they use. Every byte is checked against its digest; an entry that is damaged is left
out and named.`,
		Example: "  sov cache pull registry.example.com/team/sov-cache",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			spec, err := remote.ParseSource(args[0])
			if err != nil {
				return &usageError{err}
			}
			cache, err := (&remote.Opener{Keychain: credentials.Keychain(os.Getenv)}).Open(spec)
			if err != nil {
				return &usageError{err}
			}
			return cc.transfer(c, "pull", func(ctx context.Context, s *pipeline.Store, o remote.TransferOptions) (remote.TransferResult, error) {
				return remote.Pull(ctx, s, cache, o)
			})
		},
	}
}

// transferReport is what a transfer prints as JSON.
type transferReport struct {
	Entries int      `json:"entries"`
	Files   int      `json:"files"`
	Bytes   int64    `json:"bytes"`
	Away    int      `json:"away,omitempty"` // files that the source does not have itself
	Refused []string `json:"refused,omitempty"`
}

// transfer runs one, shows how far it is, and says what came of it.
func (cc *cacheCommand) transfer(c *cobra.Command, verb string, run func(context.Context, *pipeline.Store, remote.TransferOptions) (remote.TransferResult, error)) error {
	store, err := cc.open()
	if err != nil {
		return err
	}
	reporter, err := progress.NewReporter("auto", c.ErrOrStderr(), os.Getenv)
	if err != nil {
		return err
	}
	var result remote.TransferResult
	engine := &pipeline.Engine{Store: store, Progress: reporter}
	err = engine.Do(c.Context(), verb, func(ctx context.Context, t *pipeline.Task) error {
		var done, total int64
		var err error
		result, err = run(ctx, store, remote.TransferOptions{Progress: func(d, n int64) {
			t.Grow(n - total)
			t.Add(d - done)
			done, total = d, n
		}})
		return err
	})
	if closeErr := reporter.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if cc.asJSON {
		err = printJSON(c.OutOrStdout(), transferReport{result.Entries, result.Blobs, result.Bytes, result.Away, result.Refused})
	} else {
		_, err = fmt.Fprintf(c.OutOrStdout(), "%d entries with %d files, %s\n", result.Entries, result.Blobs, progress.FormatSize(result.Bytes))
	}
	if err == nil && len(result.Refused) > 0 {
		err = fmt.Errorf("%s: %d entries are damaged and were left out:\n  %s", verb, len(result.Refused), strings.Join(result.Refused, "\n  "))
	}
	return err
}
