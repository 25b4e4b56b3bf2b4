package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/publish"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// A transfer holds the flags that `sov publish` and `sov pull` share.
type transfer struct {
	out      string
	progress string
	asJSON   bool
}

func (t *transfer) flags(c *cobra.Command) {
	c.Flags().StringVarP(&t.out, "out", "o", "out", "folder for artifacts")
	progressFlag(c, &t.progress)
	c.Flags().BoolVar(&t.asJSON, "json", false, "print the result as JSON")
}

// do runs fn with a progress line named what.
func (t *transfer) do(c *cobra.Command, what string, fn func(ctx context.Context, task *pipeline.Task) error) error {
	return withReporter(c, t.progress, func(reporter progress.Reporter) error {
		return (&pipeline.Engine{Progress: reporter}).Do(c.Context(), what, fn)
	})
}

// registryReference parses a reference such as registry.example/team/sql:1.0.
func registryReference(text string) (name.Reference, error) {
	ref, err := name.ParseReference(text)
	if err != nil {
		return nil, usagef("reference %q: write HOST/REPOSITORY:TAG, in lower case", text)
	}
	return ref, nil
}

func newPublish() *cobra.Command {
	var t transfer
	var arches []string
	var keyPath string
	var passphrase passphraseFile
	var serial int64
	var allowCache bool
	c := &cobra.Command{
		Use:   "publish RECIPE REF",
		Short: "Publish a built machine in a registry",
		Long: `Publish a built machine in a registry, by the name of its recipe or by its folder. It becomes an OCI
artifact with the machine's files as layers, or an index if it was built for several architectures.
The bill of materials and the provenance are attached as referrers.

With --sign, the provenance is signed together with this reference and a serial: one more than the
highest serial of the key in this repository or on this computer. Publishing the same machine again
keeps the serial. sov pull --key accepts a machine only if it was signed for the reference from
which it is pulled, and if its serial is not lower than one pulled before. A machine that is signed
for another reference is not published. An unsigned machine can be published under any reference.

The artifact is checked first. It is refused if it contains unsigned results of remote caches
(taken.json lists them); --allow-unsigned-cache accepts them. Files that the registry has are not
uploaded again. The tag is set last. Credentials are read from Docker's configuration: docker login,
credential helpers, $DOCKER_CONFIG.`,
		Example: `  sov publish sql registry.example/team/sql:1.0
  sov publish sql registry.example/team/sql:1.0 --arch arm64
  sov publish sql registry.example/team/sql:1.0 --sign release.pem`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			ref, err := registryReference(args[1])
			if err != nil {
				return err
			}
			if _, digest := ref.(name.Digest); digest {
				return usagef("reference %q: write HOST/REPOSITORY:TAG: the digest follows from the content", args[1])
			}
			all := len(arches) == 0
			if all {
				arches = arch.Names()
			}
			for _, name := range arches {
				if err := checkArch(name); err != nil {
					return err
				}
			}
			dirs, err := built.Dirs(args[0], t.out, arches, all)
			if err != nil {
				return err
			}
			if err := refuseUnsigned(allowCache, dirs...); err != nil {
				return err
			}
			var o publish.Options
			if serial != 0 && keyPath == "" {
				return usagef("--serial is for --sign")
			}
			if keyPath != "" {
				if o.Sign, err = newSigner(c.Context(), keyPath, passphrase, serial); err != nil {
					return err
				}
			}
			var published *publish.Published
			err = t.do(c, "publish", func(ctx context.Context, task *pipeline.Task) (err error) {
				o.Task = task
				published, err = publish.Push(ctx, ref, dirs, o)
				return err
			})
			if err != nil {
				return err
			}
			return t.printPublished(c, published)
		},
	}
	t.flags(c)
	allowUnsignedFlag(c, &allowCache)
	c.Flags().StringVar(&keyPath, "sign", "", "sign the machine for REF with this private key (see sov key)")
	passphraseFlag(c, &passphrase)
	serialFlag(c, &serial)
	c.Flags().StringSliceVar(&arches, "arch", nil, "architectures to publish (default: those that are built)")
	complete(c, "arch", arch.Names()...)
	return c
}

func (t *transfer) printPublished(c *cobra.Command, pub *publish.Published) error {
	value := map[string]any{"reference": pub.Reference, "arches": pub.Arches, "signed": append([]string{}, pub.Signed...)}
	if pub.Serial > 0 {
		value["serial"] = pub.Serial
	}
	return printResult(c.OutOrStdout(), t.asJSON, value, func(p *printer) {
		signed := "unsigned"
		switch {
		case len(pub.Signed) == len(pub.Arches):
			signed = "signed"
			if pub.Serial > 0 {
				signed = fmt.Sprintf("signed with serial %d", pub.Serial)
			}
		case len(pub.Signed) > 0:
			signed = "signed for " + strings.Join(pub.Signed, " and ") + " only"
		}
		p.printf("published %s for %s, %s\n", pub.Reference, strings.Join(pub.Arches, " and "), signed)
	})
}
