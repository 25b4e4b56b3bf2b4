package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/image/kconfig"
	"github.com/sovereign-sql/sov/kernel"
)

// verifyReport is what `sov verify --json` prints.
type verifyReport struct {
	Dir      string             `json:"dir"`
	SignedBy string             `json:"signed_by,omitempty"` // ID of the key that the signature names
	Proven   bool               `json:"proven"`              // it is the key asked for, and its signature holds
	Checks   []string           `json:"checks"`              // what was looked at
	Problems []manifest.Problem `json:"problems"`            // what was found

	Uncovered []string `json:"uncovered,omitempty"` // files in the folder for which neither manifest nor signature speaks
}

func newVerify() *cobra.Command {
	var asJSON bool
	var keyPath string
	c := &cobra.Command{
		Use:   "verify DIR",
		Short: "Check a built machine against its manifest and itself",
		Long: `Check a built machine: every file against the manifest's sizes and SHA-256, manifest and files against the provenance,
the root filesystem against its own checksums, bitmaps and link counts, the kernel's embedded configuration against what
the guest cannot do without.

With --key the artifact has to be signed, too, by the key whose public half is given: a bit that is not as the signer had
it, in whatever file, is found, and so is an artifact that nobody signed.

Exit status: 0 when all is well, 3 with the list of what is not.`,
		Example: `  sov verify out/sql/arm64
  sov verify out/sql/arm64 --key sov.pub
  sov verify out/sql/arm64 --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			key, err := publicKey(keyPath)
			if err != nil {
				return err
			}
			report, err := verify(c.Context(), args[0], key)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(c.OutOrStdout(), report)
			} else {
				err = report.print(c.OutOrStdout())
			}
			if n := len(report.Problems); err == nil && n > 0 {
				err = &foundError{fmt.Sprintf("%s: %d problem(s)", args[0], n)}
			}
			return err
		},
	}
	c.Flags().StringVar(&keyPath, "key", "", "public key that must have signed the artifact")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// publicKey reads a public key's file; without one there is no key.
func publicKey(path string) (dsse.PublicKey, error) {
	if path == "" {
		return nil, nil
	}
	return dsse.LoadPublic(path)
}

// verify checks an artifact; a nil key asks for no signature.
func verify(ctx context.Context, dir string, key dsse.PublicKey) (*verifyReport, error) {
	report := &verifyReport{Dir: dir, Problems: []manifest.Problem{}}
	m, err := manifest.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notBuilt(err)
	}
	if err != nil {
		report.found(manifest.Name, "%v", err)
		return report, nil
	}
	report.Checks = append(report.Checks, fmt.Sprintf("%d files against %s", len(m.Files), manifest.Name))
	problems, err := manifest.Verify(ctx, dir)
	if err != nil {
		return nil, err
	}
	report.Problems = append(report.Problems, problems...)
	if err := report.provenance(dir, key); err != nil {
		return nil, err
	}
	if err := report.uncovered(m); err != nil {
		return nil, err
	}
	report.Checks = append(report.Checks, "the root filesystem's checksums, bitmaps and links")
	if err := report.rootfs(ctx, dir); err != nil {
		return nil, err
	}
	report.Checks = append(report.Checks, fmt.Sprintf("the kernel's %d required options", len(kernel.Requirements(m.Arch))))
	return report, report.kernel(dir, m.Arch)
}

func (r *verifyReport) found(file, format string, args ...any) {
	r.Problems = append(r.Problems, manifest.Problem{File: file, What: fmt.Sprintf(format, args...)})
}

func (r *verifyReport) provenance(dir string, key dsse.PublicKey) error {
	verdict, err := provenance.Verify(dir, key)
	if err != nil {
		return err
	}
	r.SignedBy, r.Proven = verdict.SignedBy, verdict.Proven
	r.Problems = append(r.Problems, verdict.Problems...)
	check := "manifest and files against " + provenance.Name
	switch {
	case verdict.Proven:
		check += fmt.Sprintf(", signed by key %.16s…", verdict.SignedBy)
	case key == nil && verdict.SignedBy != "":
		check += fmt.Sprintf("; who signed it (it says: key %.16s…) was not checked, --key does", verdict.SignedBy)
	}
	r.Checks = append(r.Checks, check)
	return nil
}

// uncovered notes what lies beside the artifact's files: other forms of it, for instance, or what somebody has put there.
func (r *verifyReport) uncovered(m *manifest.Manifest) error {
	names, err := filesIn(r.Dir)
	for _, name := range names {
		_, listed := m.File(name)
		if !listed && !slices.Contains([]string{manifest.Name, manifest.Sums, provenance.Name, provenance.Signed}, name) {
			r.Uncovered = append(r.Uncovered, name)
		}
	}
	return err
}

// rootfs leaves a missing image alone: the manifest's check has named it.
func (r *verifyReport) rootfs(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, rootfsName)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	img, err := openImage(dir)
	if err != nil {
		r.found(rootfsName, "cannot be read: %v", err)
		return nil
	}
	defer img.Close()
	problems, err := img.Check(ctx)
	for _, p := range problems {
		r.found(rootfsName, "%v", p)
	}
	return err
}

func (r *verifyReport) kernel(dir, arch string) error {
	text, err := os.ReadFile(filepath.Join(dir, "vm.json"))
	if err != nil {
		return ignoreMissing(err)
	}
	spec, err := vmspec.Decode(text)
	if err != nil {
		r.found("vm.json", "%v", err)
		return nil
	}
	image, err := kconfig.OpenFile(filepath.Join(dir, spec.Kernel))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.found(spec.Kernel, "%v", err)
		}
		return nil
	}
	text, err = image.Config()
	if err != nil {
		r.found(spec.Kernel, "%v", err)
		return nil
	}
	config, err := kconfig.Parse(text)
	if err != nil {
		r.found(spec.Kernel, "%v", err)
		return nil
	}
	for _, missing := range kernel.Check(arch, config) {
		r.found(spec.Kernel, "%v", missing)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (r *verifyReport) print(w io.Writer) error {
	for _, check := range r.Checks {
		if _, err := fmt.Fprintf(w, "checked %s\n", check); err != nil {
			return err
		}
	}
	if len(r.Uncovered) > 0 {
		if _, err := fmt.Fprintf(w, "did not check %s: no file of the artifact\n", strings.Join(r.Uncovered, ", ")); err != nil {
			return err
		}
	}
	for _, p := range r.Problems {
		if _, err := fmt.Fprintf(w, "FAULT %v\n", p); err != nil {
			return err
		}
	}
	if len(r.Problems) > 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s is sound\n", r.Dir)
	return err
}
