package verify

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
)

// TestArtifact: everything that is wrong is found at once, and what nothing speaks for is named.
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
