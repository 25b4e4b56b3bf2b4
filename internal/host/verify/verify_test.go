package verify

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/host/inspect"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/sealtest"
)

// TestVerity: the root hash is compared with every block, and with the kernel parameters in
// vm.json.
func TestVerity(t *testing.T) {
	image, tree, parameters := sealtest.Image(t, artifacttest.Noise(300*4096, 1))
	dir := artifacttest.Make(t, "sql", "1", []byte("kernel"), image)
	m := &manifest.Manifest{Format: manifest.Format, Name: "sql", Version: "1", Arch: "arm64", Verity: tree}
	artifacttest.Seal(t, dir, m)
	says := func(dir, file, text string) bool {
		t.Helper()
		report, err := Artifact(t.Context(), dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(report.Problems, func(p finding.Finding) bool { return p.Check == file && strings.Contains(p.String(), text) })
	}
	const unsealed, damaged = "does not have the kernel check", "does not have the root hash"
	if !says(dir, artifact.SpecFile, unsealed) {
		t.Error("a vm.json without the root hash is fine")
	}
	for name, change := range map[string]func(*vmspec.Spec){
		"":                func(*vmspec.Spec) {},
		"another root":    func(s *vmspec.Spec) { s.Parameters = append(s.Parameters, "root=/dev/vda") },
		"another mapping": func(s *vmspec.Spec) { s.Parameters = append(s.Parameters, "dm-mod.create=x") },
	} {
		changed := artifacttest.Change(t, dir, "1", func(s *vmspec.Spec) {
			s.Parameters = append(parameters, s.Parameters...)
			change(s)
		})
		if says(changed, artifact.RootfsFile, damaged) || says(changed, artifact.SpecFile, unsealed) != (name != "") {
			t.Errorf("%q is not judged rightly", name)
		}
	}
	image[250*4096] ^= 1
	if err := os.WriteFile(filepath.Join(dir, artifact.RootfsFile), image, 0o600); err != nil {
		t.Fatal(err)
	}
	if artifacttest.Seal(t, dir, m); !says(dir, artifact.RootfsFile, "does not have the root hash that the manifest says: block 250") {
		t.Error("a manifest whose root hash is of another image is fine")
	}
}

func TestArtifact(t *testing.T) {
	dir := artifacttest.Make(t, "sql", "1", []byte("kernel"), []byte("rootfs"))
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("other!"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("beside")
	write("kernel")
	report, err := Artifact(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Proven || report.Dir != dir || len(report.Checks) != 4 || !slices.Equal(report.Uncovered, []string{"beside"}) {
		t.Errorf("%+v", report)
	}
	for _, want := range []string{"kernel", artifact.RootfsFile} {
		found := slices.ContainsFunc(report.Problems, func(p finding.Finding) bool { return p.Check == want })
		if !found {
			t.Errorf("no problem with %s in %+v", want, report.Problems)
		}
	}
	write(artifact.ManifestFile)
	if report, err := Artifact(t.Context(), dir, nil); err != nil || len(report.Problems) != 1 || report.Problems[0].Check != artifact.ManifestFile {
		t.Errorf("a manifest that is none: %+v, %v", report, err)
	}
	if _, err := Artifact(t.Context(), filepath.Join(dir, "absent"), nil); err == nil || !strings.Contains(err.Error(), "sov build") {
		t.Errorf("no artifact: %v", err)
	}
}

// TestDanglingLinks: dangling links of the image are listed and are not a problem.
func TestDanglingLinks(t *testing.T) {
	tr := tree.New()
	if err := tr.Put("localtime", &tree.Inode{Mode: tree.S_IFLNK | 0o777, Target: "/usr/share/zoneinfo/UTC"}); err != nil {
		t.Fatal(err)
	}
	image, err := os.Create(filepath.Join(t.TempDir(), "rootfs.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if _, err := ext4.Write(t.Context(), image, tr, ext4.Options{}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(image.Name())
	if err != nil {
		t.Fatal(err)
	}
	report, err := Artifact(t.Context(), artifacttest.Make(t, "sql", "1", []byte("kernel"), text), nil)
	if err != nil || !slices.Equal(report.Dangling, []inspect.Link{{Path: "/localtime", Target: "/usr/share/zoneinfo/UTC"}}) {
		t.Errorf("%+v, %v", report, err)
	}
	if slices.ContainsFunc(report.Problems, func(p finding.Finding) bool { return p.Check == artifact.RootfsFile }) {
		t.Errorf("problems: %+v", report.Problems)
	}
}
