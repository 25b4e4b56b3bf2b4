package build_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/host/build"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
)

// TestCVEs compares a lock with vulnerability databases.
func TestCVEs(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	w.Build(o)
	database := func(text string) string {
		t.Helper()
		name := filepath.Join(t.TempDir(), "db.json")
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	bad := database(`{"distroversion":"v3.22","packages":[{"pkg":{"name":"icu-libs","secfixes":{"76.2-r0":["CVE-2026-1"],"76.1-r0":["CVE-2026-2"]}}}]}`)
	r, err := build.CVEs(t.Context(), o.Options, bad, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if r.Open() != 1 || r.Vulnerabilities[0].ID != "CVE-2026-1" || r.Vulnerabilities[0].Version != "76.1-r0" || r.Components < 3 {
		t.Errorf("got %+v", r)
	}
	ignoring := *o.Recipe
	ignoring.CVEs.Ignore = []recipe.IgnoredCVE{{ID: "CVE-2026-1", Reason: "no text is sorted"}}
	o.Recipe = &ignoring
	if r, err = build.CVEs(t.Context(), o.Options, bad, time.Now()); err != nil || r.Open() != 0 || len(r.Vulnerabilities) != 1 {
		t.Errorf("ignored: %+v, %v", r, err)
	}
	for name, want := range map[string]string{database("{}"): "neither Alpine's", "http://192.0.2.1/main.json": "plain http", bad + "x": "no such file"} {
		if _, err := build.CVEs(t.Context(), o.Options, name, time.Now()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o.Offline = true
	if _, err := build.CVEs(t.Context(), o.Options, "https://192.0.2.1/main.json", time.Now()); !errors.Is(err, fetch.ErrOffline) {
		t.Errorf("offline: %v", err)
	}
}
