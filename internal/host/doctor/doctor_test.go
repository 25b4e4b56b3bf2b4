package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/finding"
)

func TestCacheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	findings, _ := Check(t.Context(), "arm64", []string{"cache"}, func() (string, error) { return dir, nil })
	if len(findings) != 1 || findings[0].Group != "cache" || (findings[0].Verdict == finding.OK) == (findings[0].Advice != "") {
		t.Errorf("%+v", findings)
	}
	homeless, _ := Check(t.Context(), "arm64", []string{"cache"}, func() (string, error) { return "", errors.New("no home") })
	findings = append(findings, homeless...)
	if last := findings[1]; last.Verdict != finding.Failed || last.Found != "no home" || last.Advice == "" {
		t.Errorf("%+v", last)
	}
	findings[0].Verdict = finding.OK
	if n := len(finding.Failures(findings)); n != 1 {
		t.Errorf("%d are missing", n)
	}
}

// TestMissingTools checks a computer without programs, and a computer with the Go of Debian 12.
func TestMissingTools(t *testing.T) {
	path := t.TempDir()
	t.Setenv("PATH", path)
	check := func() (map[string]finding.Finding, []string) {
		findings, packages := Check(t.Context(), "arm64", []string{"tools"}, nil)
		byCheck := map[string]finding.Finding{}
		for _, f := range findings {
			byCheck[f.Check] = f
		}
		return byCheck, packages
	}
	findings, packages := check()
	for _, want := range []string{"adb", "bc", "gcc", "libc6-dev", "make", "postgresql-client", "qemu-system-arm"} {
		if !slices.Contains(packages, want) {
			t.Errorf("package %s is missing in %v", want, packages)
		}
	}
	if !slices.IsSorted(packages) || len(slices.Compact(slices.Clone(packages))) != len(packages) {
		t.Errorf("packages %v", packages)
	}
	for name, want := range map[string]finding.Verdict{
		"Go toolchain": finding.Failed, "kernel compiler": finding.Failed, "QEMU": finding.Warning, "adb": finding.Warning, "psql": finding.Warning, "passt": finding.Warning,
	} {
		if f := findings[name]; f.Verdict != want || f.Advice == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if err := os.WriteFile(filepath.Join(path, "go"), []byte("#!/bin/sh\necho go1.19.8\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	findings, _ = check()
	if f := findings["Go toolchain"]; f.Verdict != finding.Failed || !strings.Contains(f.Found, "go1.19.8") {
		t.Errorf("an old Go: %+v", f)
	}
}
