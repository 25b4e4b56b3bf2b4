package doctor

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/sovereign-sql/sov/internal/finding"
)

func TestCacheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	findings := Check(t.Context(), "arm64", []string{"cache"}, func() (string, error) { return dir, nil })
	if len(findings) != 1 || findings[0].Group != "cache" || (findings[0].Verdict == finding.OK) == (findings[0].Advice != "") {
		t.Errorf("%+v", findings)
	}
	findings = append(findings, Check(t.Context(), "arm64", []string{"cache"}, func() (string, error) { return "", errors.New("no home") })...)
	if last := findings[1]; last.Verdict != finding.Failed || last.Found != "no home" || last.Advice == "" {
		t.Errorf("%+v", last)
	}
	findings[0].Verdict = finding.OK
	if n := len(finding.Failures(findings)); n != 1 {
		t.Errorf("%d are missing", n)
	}
}
