package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/stages/offlinebundle"
)

func newBundle() *cobra.Command {
	var f recipeFlags
	var file, signKey string
	var passphrase passphraseFile
	c := &cobra.Command{
		Use:   "bundle RECIPE -o FILE",
		Short: "Write all inputs of a locked build into one file",
		Long: `Write all inputs of a locked build into one file: base image, packages, the kernel's source,
Tailscale's modules, the recipe and the lock. "sov build --bundle FILE --offline" builds the same
machine from it without a network, even after mirrors have dropped the packages. The bundle does not
contain compilers and Go.

Inputs that the cache lacks are downloaded. The same lock gives the same file. With --sign the
signature is written to FILE.dsse.json, and "sov build --bundle FILE --key PUB" verifies it.`,
		Example: `  sov bundle sql -o sql.sovbundle
  sov bundle sql --arch amd64 -o sql-amd64.sovbundle
  sov build sql --bundle sql.sovbundle --offline
  sov bundle sql -o sql.sovbundle --sign ~/.config/sov/key.pem
  sov build --bundle sql.sovbundle --key sov.pub --offline`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if err := errors.Join(checkArch(f.Arch), excludeEachOther(c, kernelFlags)); err != nil {
				return err
			}
			if file == "" {
				return usagef("the file to write is missing: type `sov bundle %s -o FILE` (see `sov bundle --help`)", args[0])
			}
			if err := f.load(args[0]); err != nil {
				return err
			}
			var key dsse.PrivateKey
			if signKey != "" {
				if key, err = passphrase.loadKey(c.Context(), signKey); err != nil {
					return err
				}
			}
			var report *offlinebundle.Report
			err = withReporter(c, f.progress, func(reporter progress.Reporter) (err error) {
				f.Reporter = reporter
				report, err = offlinebundle.Write(c.Context(), f.Options.Options, file, key)
				return err
			})
			if err != nil {
				return err
			}
			return printResult(c.OutOrStdout(), f.asJSON, report, func(p *printer) { printBundle(p, report, f.LockPath) })
		},
	}
	flags := c.Flags()
	lockedFlags(c, &f)
	variantFlags(c, &f)
	flags.StringVarP(&file, "output", "o", "", "file to write")
	flags.StringVar(&signKey, "sign", "", "sign the bundle with this private key (see sov key); the signature is FILE.dsse.json")
	passphraseFlag(c, &passphrase)
	flags.BoolVar(&f.Offline, "offline", false, "do not use the network: fail if something is not in the cache")
	flags.StringVar(&f.Kernel, "kernel", "", "a compiled kernel, as for the build: the bundle then has no kernel source")
	return c
}

func printBundle(p *printer, r *offlinebundle.Report, lockPath string) {
	var kinds []string
	for kind, n := range r.Items {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(kinds)
	if r.LockWritten {
		p.printf("wrote %s: commit it\n", lockPath)
	}
	p.printf("wrote %s, %s: %s\n", r.Path, progress.FormatSize(r.Size), strings.Join(kinds, ", "))
	if r.Signed {
		p.printf("wrote %s: send both\n", offline.SignatureOf(r.Path))
	}
}
