package signing

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/serials"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/stages/module"
)

// makeArtifact makes an artifact with an unsigned provenance.
func makeArtifact(t *testing.T, version string) string {
	t.Helper()
	dir := artifacttest.Make(t, "sql", version, []byte("kernel"), []byte("rootfs of "+version))
	artifacttest.Sign(t, dir, artifacttest.Key(t, 9), 1)
	if err := os.Remove(filepath.Join(dir, artifact.SignedFile)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestSerials: each version gets a higher serial. Signing the same version again keeps the serial,
// and a serial never decreases.
func TestSerials(t *testing.T) {
	memory := serials.At(filepath.Join(t.TempDir(), "serials.json"))
	key, one, two := artifacttest.Key(t, 1), makeArtifact(t, "1"), makeArtifact(t, "2")
	for _, c := range []struct {
		name    string
		signer  Signer
		dir     string
		serial  int64
		changed bool
	}{
		{"the first", Signer{}, one, 1, true},
		{"again", Signer{}, one, 1, false},
		{"the second", Signer{}, two, 2, true},
		{"the first once more", Signer{}, one, 3, true},
		{"a serial", Signer{Serial: 7}, two, 7, true},
		{"for a reference", Signer{Reference: "host/sql:1", Repository: "host/sql"}, two, 8, true},
		{"known elsewhere", Signer{Known: 20}, one, 21, true},
	} {
		c.signer.Key, c.signer.Serials = key, memory
		serial, changed, err := c.signer.Sign(t.Context(), c.dir)
		if serial != c.serial || changed != c.changed || err != nil {
			t.Errorf("%s: serial %d, changed %v, %v; want %d, %v", c.name, serial, changed, err, c.serial, c.changed)
		}
		signed, err := provenance.ReadSigned(c.dir)
		if err != nil || signed.Serial != c.serial || signed.Reference != c.signer.Reference || signed.Name != "sql" {
			t.Errorf("%s: signed as %+v, %v", c.name, signed, err)
		}
	}
	before, err := os.ReadFile(filepath.Join(two, artifact.SignedFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := (&Signer{Key: key, Serials: memory, Serial: 20}).Sign(t.Context(), two); err == nil || !strings.Contains(err.Error(), "lower than 21") {
		t.Errorf("a lower serial: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(two, artifact.SignedFile)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a refused serial changed the signature: %v", err)
	}
	if serial, _, err := (&Signer{Key: artifacttest.Key(t, 2), Serials: memory}).Sign(t.Context(), two); serial != 1 || err != nil {
		t.Errorf("another key: %d, %v", serial, err)
	}
}

// TestSignedModule: the module in an artifact's folder gets the artifact's signature, which
// replaces an earlier one. The module's other files do not change.
func TestSignedModule(t *testing.T) {
	dir := makeArtifact(t, "1")
	a, err := installed.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := func(name string) (io.ReadCloser, error) {
		if name == artifact.RunnerFile {
			return io.NopCloser(strings.NewReader("runner")), nil
		}
		return os.Open(filepath.Join(dir, name))
	}
	var built bytes.Buffer
	if err := module.Write(t.Context(), &built, a.Manifest, a.Files, open, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, artifact.ModuleFile("sql"))
	if err := os.WriteFile(path, built.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := SignModule(t.Context(), dir, "sql"); err != nil { // the artifact is unsigned
		t.Fatal(err)
	}
	want := files(t, path)
	for _, serial := range []int64{1, 2, 2} {
		if _, _, err := (&Signer{Key: artifacttest.Key(t, 1), Serial: serial}).Sign(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		envelope, err := os.ReadFile(filepath.Join(dir, artifact.SignedFile))
		if err != nil {
			t.Fatal(err)
		}
		got := files(t, path)
		if got[module.SignedEntry] != string(envelope) {
			t.Errorf("serial %d: the module has another signature", serial)
		}
		delete(got, module.SignedEntry)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("serial %d: %s", serial, diff)
		}
	}
}

func files(t *testing.T, path string) map[string]string {
	t.Helper()
	archive, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	out := map[string]string{}
	for _, f := range archive.File {
		src, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(src)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := out[f.Name]; twice {
			t.Errorf("%s is there twice", f.Name)
		}
		out[f.Name] = string(text)
	}
	return out
}
