// Package verify checks an artifact against its manifest, its provenance and itself: the root file
// system's own checksums, and the kernel's configuration against what a guest requires. It returns
// everything that it finds. The signature's cryptography is package dsse's, the rules of a root
// file system are package ext4's.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/inspect"
	"github.com/sovereign-sql/sov/internal/image/kconfig"
	"github.com/sovereign-sql/sov/internal/image/verity"
	"github.com/sovereign-sql/sov/kernel"
)

// A Report is what was checked of an artifact, and what was found.
type Report struct {
	Dir      string            `json:"dir"`
	SignedBy string            `json:"signed_by,omitempty"` // ID of the key that the signature names
	Serial   int64             `json:"serial,omitempty"`    // of the signature
	Proven   bool              `json:"proven"`              // it is the key asked for, and its signature holds
	Checks   []string          `json:"checks"`              // what was looked at
	Problems []finding.Finding `json:"problems"`            // what was found

	// Dangling are links in the root file system that lead nowhere. They are no fault: base images
	// have some.
	Dangling []inspect.Link `json:"dangling,omitempty"`

	Uncovered []string `json:"uncovered,omitempty"` // files in the folder for which neither manifest nor signature speaks

	features kernel.Features // that its kernel must carry
}

// Artifact checks the artifact in dir. With a key, it must be signed with that key. The error is
// that of an artifact that cannot be read; what is wrong with one is in the report.
func Artifact(ctx context.Context, dir string, key dsse.PublicKey) (*Report, error) {
	report := &Report{Dir: dir, Problems: []finding.Finding{}, features: kernel.AllFeatures}
	report.features.Disk = false // which a kernel of an earlier sov is not fit for
	m, err := manifest.Load(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, built.NotBuilt(err)
	}
	if err != nil {
		report.found(artifact.ManifestFile, "%v", err)
		return report, nil
	}
	report.Checks = append(report.Checks, fmt.Sprintf("%d files against %s", len(m.Files), artifact.ManifestFile))
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
	if m.Verity != nil {
		report.Checks = append(report.Checks, fmt.Sprintf("every block of the root filesystem against its root hash %.16s…", m.Verity.RootHash))
		if err := report.verity(ctx, m.Verity); err != nil {
			return nil, err
		}
	}
	if err := report.disk(ctx); err != nil {
		return nil, err
	}
	report.Checks = append(report.Checks, fmt.Sprintf("the kernel's %d required options", len(kernel.Requirements(m.Arch, report.features))))
	return report, report.kernel(dir, m.Arch)
}

func (r *Report) found(file, format string, args ...any) {
	r.Problems = append(r.Problems, finding.Fail(file, fmt.Sprintf(format, args...), ""))
}

func (r *Report) provenance(dir string, key dsse.PublicKey) error {
	verdict, err := provenance.Verify(dir, key)
	if err != nil {
		return err
	}
	r.SignedBy, r.Proven = verdict.SignedBy, verdict.Proven
	if verdict.Signed != nil {
		r.Serial = verdict.Signed.Serial
	}
	r.Problems = append(r.Problems, verdict.Problems...)
	check := "manifest and files against " + artifact.ProvenanceFile
	switch {
	case verdict.Proven:
		check += fmt.Sprintf(", signed by key %.16s…, serial %d", verdict.SignedBy, r.Serial)
	case key == nil && verdict.SignedBy != "":
		check += fmt.Sprintf("; who signed it (it says: key %.16s…) was not checked, --key does", verdict.SignedBy)
	}
	r.Checks = append(r.Checks, check)
	return nil
}

// uncovered reports files in the folder that the manifest does not list, such as other forms of the
// artifact.
func (r *Report) uncovered(m *manifest.Manifest) error {
	names, err := built.Files(r.Dir)
	for _, name := range names {
		_, listed := m.File(name)
		if !listed && !slices.Contains([]string{artifact.ManifestFile, artifact.SumsFile, artifact.ProvenanceFile, artifact.SignedFile}, name) {
			r.Uncovered = append(r.Uncovered, name)
		}
	}
	return err
}

// rootfs leaves a missing image alone: the manifest's check has named it.
func (r *Report) rootfs(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, artifact.RootfsFile)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	img, err := built.OpenImage(dir)
	if err != nil {
		r.found(artifact.RootfsFile, "cannot be read: %v", err)
		return nil
	}
	defer img.Close()
	problems, err := img.Check(ctx)
	for _, p := range problems {
		r.found(artifact.RootfsFile, "%v", p)
	}
	if err != nil || len(problems) > 0 {
		return err
	}
	if guest, err := guestspec.Load(img.FS); err == nil { // what is not a guest's root is found when it boots
		has := func(name string) bool {
			return slices.ContainsFunc(guest.Services, func(s guestspec.Service) bool { return s.Name == name })
		}
		r.features = kernel.Features{Tailscale: has(guestspec.ServiceTailscale), Postgres: has(guestspec.ServicePostgres), Encryption: guest.Encrypts()}
	}
	r.Dangling, err = inspect.DanglingLinks(img.FS)
	return err
}

// verity compares the root file system with the root hash, and that with what vm.json gives the
// kernel.
func (r *Report) verity(ctx context.Context, tree *manifest.Verity) error {
	root, err := tree.Root()
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(r.Dir, tree.File))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := verity.Check(ctx, f, tree.DataSize, root); ctx.Err() != nil {
		return err
	} else if err != nil {
		r.found(tree.File, "does not have the root hash that the manifest says: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(r.Dir, artifact.SpecFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if spec, err := vmspec.Decode(text); err == nil && !sealed(spec, tree.DataSize, root) { // what is no spec is found later
		r.found(artifact.SpecFile, "does not have the kernel check the root filesystem against the root hash that the manifest says")
	}
	return nil
}

// sealed reports whether a kernel mounts the root file system by way of its hash tree: of
// parameters with one name, the last counts.
func sealed(spec *vmspec.Spec, data int64, root verity.Digest) bool {
	for _, want := range verity.Parameters(vmspec.RootDevice, data, root) {
		name, _, _ := strings.Cut(want, "=")
		last := ""
		for _, p := range spec.Parameters {
			if strings.HasPrefix(p, name+"=") {
				last = p
			}
		}
		if last != want {
			return false
		}
	}
	return true
}

func (r *Report) kernel(dir, arch string) error {
	text, err := os.ReadFile(filepath.Join(dir, artifact.SpecFile))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	spec, err := vmspec.Decode(text)
	if err != nil {
		r.found(artifact.SpecFile, "%v", err)
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
	for _, missing := range kernel.Check(arch, config, r.features) {
		r.found(spec.Kernel, "%v", missing)
	}
	return nil
}
