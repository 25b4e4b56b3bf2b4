package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/host/publish"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// A transfer is what `sov publish` and `sov pull` have in common.
type transfer struct {
	out      string
	progress string
	asJSON   bool
}

func (t *transfer) flags(c *cobra.Command) {
	c.Flags().StringVarP(&t.out, "out", "o", "out", "folder for artifacts")
	c.Flags().StringVar(&t.progress, "progress", "auto", "how to show progress: auto, tty, plain or json")
	c.Flags().BoolVar(&t.asJSON, "json", false, "print the result as JSON")
	complete(c, "progress", "auto", "tty", "plain", "json")
}

// do runs fn with a line of progress of that name.
func (t *transfer) do(c *cobra.Command, what string, fn func(ctx context.Context, task *pipeline.Task) error) error {
	reporter, err := progress.NewReporter(t.progress, c.ErrOrStderr(), os.Getenv)
	if err != nil {
		return &usageError{err}
	}
	err = (&pipeline.Engine{Progress: reporter}).Do(c.Context(), what, fn)
	if closeErr := reporter.Close(); err == nil {
		err = closeErr
	}
	return err
}

// registryReference reads a reference such as registry.example/team/sql:1.0.
func registryReference(text string) (name.Reference, error) {
	ref, err := name.ParseReference(text)
	if err != nil {
		return nil, &usageError{fmt.Errorf("reference %q: %w; write HOST/REPOSITORY:TAG", text, err)}
	}
	return ref, nil
}

func newPublish() *cobra.Command {
	var t transfer
	var arches []string
	c := &cobra.Command{
		Use:   "publish RECIPE REF",
		Short: "Push a built machine to a registry",
		Long: `Push the machine that was built from a recipe, or the one in a folder, to a registry, as an OCI artifact with its files as
layers; if it has been built for several architectures, as an index of them. Bill of materials and provenance, signed if the machine is (sov sign),
are attached as referrers.

The artifact is checked first. What the registry has already is not sent again, and the tag is set last. Credentials are
Docker's: docker login, credential helpers, $DOCKER_CONFIG.`,
		Example: `  sov publish sql registry.example/team/sql:1.0
  sov publish sql registry.example/team/sql:1.0 --arch arm64`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			ref, err := registryReference(args[1])
			if err != nil {
				return err
			}
			if _, digest := ref.(name.Digest); digest {
				return &usageError{fmt.Errorf("reference %q: publish under a tag; the digest follows from the content", args[1])}
			}
			dirs, err := builtDirs(args[0], t.out, arches)
			if err != nil {
				return err
			}
			var published *publish.Published
			err = t.do(c, "publish", func(ctx context.Context, task *pipeline.Task) (err error) {
				published, err = publish.Push(ctx, ref, dirs, publish.Options{Task: task})
				return err
			})
			if err != nil {
				return err
			}
			return t.printPublished(c, published)
		},
	}
	t.flags(c)
	c.Flags().StringSliceVar(&arches, "arch", nil, "architectures to publish (default: those that are built)")
	complete(c, "arch", architectures...)
	return c
}

// builtDirs are a recipe's artifacts, of the architectures named or of all that are built.
func builtDirs(recipe, out string, arches []string) ([]string, error) {
	all := len(arches) == 0
	if all {
		arches = architectures
	}
	var dirs []string
	for _, arch := range arches {
		if err := checkArch(arch); err != nil {
			return nil, err
		}
		dir, err := artifactDir(recipe, out, arch)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(filepath.Join(dir, manifest.Name)); errors.Is(err, fs.ErrNotExist) && all {
			continue
		} else if err != nil {
			return nil, notBuilt(err)
		}
		if !slices.Contains(dirs, dir) { // a folder is what it is, whatever the architecture
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("%s has no built machine %s: build it with `sov build`, or name the out folder with -o", out, recipe)
	}
	return dirs, nil
}

func (t *transfer) printPublished(c *cobra.Command, p *publish.Published) error {
	if t.asJSON {
		return printJSON(c.OutOrStdout(), map[string]any{"reference": p.Reference, "arches": p.Arches, "signed": append([]string{}, p.Signed...)})
	}
	signed := "unsigned"
	switch {
	case len(p.Signed) == len(p.Arches):
		signed = "signed"
	case len(p.Signed) > 0:
		signed = "signed for " + strings.Join(p.Signed, " and ") + " only"
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "published %s for %s, %s\n", p.Reference, strings.Join(p.Arches, " and "), signed)
	return err
}
