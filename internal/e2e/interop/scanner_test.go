package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
)

// TestScanner runs grype on the SBOMs of two machines with vulnerability databases made by hand.
// They contain vulnerabilities of an Alpine package, a Go module and Go's standard library, some of
// them fixed in the installed version.
func TestScanner(t *testing.T) {
	scanner := filepath.Join(t.TempDir(), "scanner")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", scanner, ".")
	build.Dir = filepath.Join("testdata", "scanner")
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the scanner: %v\n%s", err, out)
	}
	w := tinybuild.New(t)
	for _, tt := range []struct {
		machine         string
		vulnerabilities []string
		want            []string
	}{
		// The base image is Alpine. No program in it is written in Go.
		{w.Build(w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))).Dir,
			[]string{"CVE-1:apk:icu-libs:apk:< 76.2-r0", "CVE-2:apk:icu-libs:apk:< 76.1-r0"},
			[]string{"distribution alpine 3.22.1", "CVE-1 icu-libs 76.1-r0"}},
		{sovtest.Artifact(t, "arm64"),
			[]string{"CVE-3:go-module:stdlib:go:< 99.0.0", "CVE-4:go-module:stdlib:go:< 1.0.0",
				"CVE-5:go-module:github.com/jackc/pgx/v5:go:< 99.0.0", "CVE-6:go-module:github.com/jackc/pgx/v5:go:< 5.0.1"},
			[]string{"CVE-3 stdlib ", "CVE-5 github.com/jackc/pgx/v5 "}},
	} {
		args := append([]string{filepath.Join(tt.machine, artifact.SBOMFile), "alpine", "3", "22"}, tt.vulnerabilities...)
		out, err := exec.CommandContext(t.Context(), scanner, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, want := range tt.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("not found: %q", want)
			}
		}
		for _, wrong := range []string{"CVE-2", "CVE-4", "CVE-6"} {
			if strings.Contains(string(out), wrong) {
				t.Errorf("found: %s", wrong)
			}
		}
		t.Logf("grype says:\n%s", out)
	}
}
