package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/cache"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/remote"
)

func (cc *cacheCommand) newExport() *cobra.Command {
	var last bool
	var keyFiles []string
	var passphrase passphraseFile
	c := &cobra.Command{
		Use:   "export FILE",
		Short: "Write the cache into one file",
		Long: `Write all entries of the cache, or those of the last builds, into one file that "sov cache import"
reads on another computer. The file appears when it is complete.`,
		Example: "  sov cache export cache.tar\n  sov cache export --last cache.tar",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			keys, err := cacheKeys(c.Context(), keyFiles, passphrase)
			if err != nil {
				return &usageError{err}
			}
			archive, err := remote.Create(args[0])
			if err != nil {
				return err
			}
			defer archive.Abort()
			archive.Trusting(keys.Trust())
			return cc.transfer(c, "export", cache.Export(archive, last, keys.Believe()))
		},
	}
	c.Flags().BoolVar(&last, "last", false, "only what the last build of each recipe used")
	cacheKeyFlags(c, &keyFiles, &passphrase, nil)
	return c
}

func (cc *cacheCommand) newImport() *cobra.Command {
	var keyFiles []string
	var passphrase passphraseFile
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Import entries from a file",
		Long: `Import the entries of a file of "sov cache export". Every file is checked against its digest;
damaged entries are skipped and listed.`,
		Example: "  sov cache import cache.tar",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			keys, err := cacheKeys(c.Context(), keyFiles, passphrase)
			if err != nil {
				return &usageError{err}
			}
			archive, file, err := remote.Open(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			return cc.transfer(c, "import", cache.Pull(archive.Trusting(keys.Trust()), keys.Believe()))
		},
	}
	cacheKeyFlags(c, &keyFiles, &passphrase, nil)
	return c
}

func (cc *cacheCommand) newPush() *cobra.Command {
	var last bool
	var keyFiles []string
	var passphrase passphraseFile
	c := &cobra.Command{
		Use:   "push REMOTE",
		Short: "Upload the cache to a registry or a shared folder",
		Long: `Upload all entries of the cache, or those of the last builds, to a remote cache: HOST/REPOSITORY in
a registry, or type=dir,dest=PATH. Files that the remote cache has are not uploaded again.`,
		Example: "  sov cache push registry.example.com/team/sov-cache\n  sov cache push --last type=dir,dest=/mnt/share/sov-cache",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			keys, err := cacheKeys(c.Context(), keyFiles, passphrase)
			if err != nil {
				return &usageError{err}
			}
			to, err := cache.OpenRemote(args[0], remote.ParseTarget, keys.Trust(), os.Getenv)
			if err != nil {
				return &usageError{err}
			}
			return cc.transfer(c, "push", cache.Push(to, last, keys.Believe()))
		},
	}
	c.Flags().BoolVar(&last, "last", false, "only what the last build of each recipe used")
	cacheKeyFlags(c, &keyFiles, &passphrase, nil)
	return c
}

func (cc *cacheCommand) newPull() *cobra.Command {
	var keyFiles []string
	var passphrase passphraseFile
	c := &cobra.Command{
		Use:   "pull REMOTE",
		Short: "Download all entries from a registry or a shared folder",
		Long: `Download all entries of a remote cache: HOST/REPOSITORY in a registry, or type=dir,src=PATH. Builds
do not need this: with --cache-from they download what they use. Every file is checked against its
digest; damaged entries are skipped and listed.`,
		Example: "  sov cache pull registry.example.com/team/sov-cache",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			keys, err := cacheKeys(c.Context(), keyFiles, passphrase)
			if err != nil {
				return &usageError{err}
			}
			from, err := cache.OpenRemote(args[0], remote.ParseSource, keys.Trust(), os.Getenv)
			if err != nil {
				return &usageError{err}
			}
			return cc.transfer(c, "pull", cache.Pull(from, keys.Believe()))
		},
	}
	cacheKeyFlags(c, &keyFiles, &passphrase, nil)
	return c
}

// transfer runs an export, import, push or pull of the cache, shows its progress and prints its
// result.
func (cc *cacheCommand) transfer(c *cobra.Command, verb string, run cache.Transfer) error {
	store, err := cc.open()
	if err != nil {
		return err
	}
	var report cache.Report
	err = withReporter(c, "auto", func(reporter progress.Reporter) (err error) {
		report, err = cache.Run(c.Context(), store, reporter, verb, run)
		return err
	})
	if err != nil {
		return err
	}
	err = printResult(c.OutOrStdout(), cc.asJSON, report, func(p *printer) {
		p.printf("%d entries with %d files, %s\n", report.Entries, report.Files, progress.FormatSize(report.Bytes))
	})
	if err == nil && len(report.Refused) > 0 {
		err = fmt.Errorf("%s: %d entries are damaged or not signed, and were left out:\n  %s", verb, len(report.Refused), strings.Join(report.Refused, "\n  "))
	}
	return err
}
