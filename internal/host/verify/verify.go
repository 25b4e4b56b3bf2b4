// Package verify checks an artifact against its manifest and its provenance, the root file system
// against its checksums, and the kernel's configuration against what a guest requires. It returns
// all problems. Package dsse verifies the signature, package ext4 the root file system.
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

// A Report lists the checks of an artifact and the problems found.
type Report struct {
	Dir      string            `json:"dir"`
	SignedBy string            `json:"signed_by,omitempty"` // ID of the key that the signature names
	Serial   int64             `json:"serial,omitempty"`    // of the signature
	Proven   bool              `json:"proven"`              // the signature was verified with the given key
	Checks   []string          `json:"checks"`              // the checks that were made
	Problems []finding.Finding `json:"problems"`            // the problems found

	// Dangling are dangling links in the root file system. They are not problems: base images have
	// some.
	Dangling []inspect.Link `json:"dangling,omitempty"`

	Uncovered []string `json:"uncovered,omitempty"` // files in the folder that neither the manifest nor the signature covers

	features kernel.Features // that its kernel must have
}

// Artifact checks the artifact in dir. With a key, it must be signed with that key. It returns an
// error if the artifact cannot be read; problems are in the report.
func Artifact(ctx context.Context, dir string, key dsse.PublicKey) (*Report, error) {
	report := &Report{Dir: dir, Problems: []finding.Finding{}, features: kernel.AllFeatures}
	report.features.Disk = false // kernels of an earlier sov do not have it
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

// rootfs checks the root file system. It ignores a missing image, which the check of the manifest
// reports.
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
	if guest, err := guestspec.Load(img.FS); err == nil { // an image without a guest's specification is found when it boots
		has := func(name string) bool {
			return slices.ContainsFunc(guest.Services, func(s guestspec.Service) bool { return s.Name == name })
		}
		r.features = kernel.Features{Tailscale: has(guestspec.ServiceTailscale), Postgres: has(guestspec.ServicePostgres), Encryption: guest.Encrypts()}
	}
	r.Dangling, err = inspect.DanglingLinks(img.FS)
	return err
}

// verity checks the root file system against the root hash, and that against the kernel parameters
// in vm.json.
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
	if spec, err := vmspec.Decode(text); err == nil && !sealed(spec, tree.DataSize, root) { // an invalid vm.json is reported later
		r.found(artifact.SpecFile, "does not have the kernel check the root filesystem against the root hash that the manifest says")
	}
	return nil
}

// sealed reports whether the kernel mounts the root file system through dm-verity with this root
// hash. Of parameters with the same name, the last counts.
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
