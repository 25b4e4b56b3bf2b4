package provenance

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func testKey(t testing.TB, seed byte) dsse.PrivateKey {
	t.Helper()
	key, err := dsse.NewKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func example(subjects []manifest.File) *Statement {
	return New(subjects, "v1.2.3",
		External{Recipe: Resource{Name: "sql", Digest: SHA256(strings.Repeat("ab", 32))}, Arch: "arm64", Image: "alpine:3.22", Packages: []string{"a>1"}, Kernel: KernelDefault},
		Internal{Go: "go1.26.8"}, []Resource{{URI: "pkg:generic/linux@6.1", Digest: SHA256(strings.Repeat("cd", 32))}})
}

// makeArtifact writes a small, unsigned artifact.
func makeArtifact(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name string, content []byte) manifest.File {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
		return manifest.Describe(name, content)
	}
	files := []manifest.File{put("kernel", []byte("kernel")), put("rootfs.img", []byte("rootfs")), put("sbom.cdx.json", []byte("{}"))}
	m := &manifest.Manifest{Format: manifest.Format, Name: "sql", Version: "1", Arch: "arm64", Files: files}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	files = slices.Insert(slices.Clone(files), 1, put(artifact.ManifestFile, text))
	statement, err := example(files).Encode()
	if err != nil {
		t.Fatal(err)
	}
	put(artifact.SumsFile, manifest.SumsFile(append(files, put(artifact.ProvenanceFile, statement))))
	return dir
}

// faults returns the problems that both checks of an artifact find.
func faults(t *testing.T, dir string, key dsse.PublicKey) []string {
	t.Helper()
	problems, err := manifest.Verify(context.Background(), dir)
	var out []string
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []string{err.Error()}
	}
	verdict, err := Verify(dir, key)
	if err != nil {
		return []string{err.Error()}
	}
	for _, p := range append(problems, verdict.Problems...) {
		out = append(out, p.String())
	}
	if len(out) == 0 && verdict.Proven != (key != nil) {
		t.Errorf("proven %v with key %v", verdict.Proven, key)
	}
	return out
}

func TestSignVerify(t *testing.T) {
	dir, key := makeArtifact(t), testKey(t, 1)
	if got := faults(t, dir, nil); len(got) > 0 {
		t.Errorf("unsigned, without a key: %q", got)
	}
	if got := faults(t, dir, key.Public()); len(got) != 1 || !strings.Contains(got[0], "the artifact is not signed") {
		t.Errorf("unsigned, with a key: %q", got)
	}
	before := contents(t, dir)
	for i, want := range []bool{true, false} {
		if changed, err := Sign(dir, key, Release{Name: "sql", Serial: 3}); err != nil || changed != want {
			t.Fatalf("signing for the %d. time: changed %v, %v", i+1, changed, err)
		}
	}
	after := contents(t, dir)
	delete(after, artifact.SignedFile)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("signing changed more than the envelope:\n%s", diff)
	}
	if got := faults(t, dir, key.Public()); len(got) > 0 {
		t.Errorf("signed: %q", got)
	}
	if v, err := Verify(dir, nil); err != nil || v.SignedBy != key.Public().ID() || v.Proven || v.Signed.Serial != 3 {
		t.Errorf("without a key: %+v, %v", v, err)
	}
	if got := faults(t, dir, testKey(t, 2).Public()); len(got) != 1 || !strings.Contains(got[0], "it was signed by key") {
		t.Errorf("with another key: %q", got)
	}
}

// TestSignedByEarlierSov: an envelope of the bare statement stays valid. It has no serial.
func TestSignedByEarlierSov(t *testing.T) {
	dir, key := makeArtifact(t), testKey(t, 1)
	envelope, err := dsse.Seal(key, PayloadType, []byte(contents(t, dir)[artifact.ProvenanceFile]))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, artifact.SignedFile), envelope, 0o644); err != nil {
		t.Fatal(err)
	}
	if v, err := Verify(dir, key.Public()); err != nil || !v.Proven || v.Signed != nil {
		t.Errorf("%+v, %v", v, err)
	}
	if signed, err := ReadSigned(dir); signed != nil || err != nil {
		t.Errorf("%+v, %v", signed, err)
	}
}

// TestOpenSigned: a signed statement is accepted only if the key that it names made the signature.
func TestOpenSigned(t *testing.T) {
	dir, key := makeArtifact(t), testKey(t, 1)
	text := contents(t, dir)[artifact.ProvenanceFile]
	good, err := seal([]byte(text), key, Release{Name: "sql", Reference: "host/sql:1", Serial: 7})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := OpenSigned(good)
	if err != nil || signed.Serial != 7 || signed.Reference != "host/sql:1" || signed.By.ID() != key.Public().ID() || !signed.States([]byte(text)) {
		t.Fatalf("%+v, %v", signed, err)
	}
	m := contents(t, dir)[artifact.ManifestFile]
	if sum := manifest.Describe("m", []byte(m)).SHA256; !signed.IsOf("sql", sum) || signed.IsOf("forge", sum) || signed.IsOf("sql", strings.Repeat("0", 64)) {
		t.Error("it is of another artifact")
	}
	// Another key signs a statement that names this key.
	forged, err := dsse.Seal(testKey(t, 2), PayloadType, signed.Payload)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSigned(forged); !errors.Is(err, dsse.ErrRefused) {
		t.Errorf("another key's signature: %v", err)
	}
	for name, r := range map[string]Release{"no serial": {Name: "sql"}, "too high": {Name: "sql", Serial: MaxSerial + 1}, "no name": {Serial: 1}, "a path": {Name: "../sql", Serial: 1}} {
		if _, err := seal([]byte(text), key, r); err == nil {
			t.Errorf("%s was signed", name)
		}
	}
}

// FuzzOpenSigned: OpenSigned accepts only the sealed text, and never panics.
func FuzzOpenSigned(f *testing.F) {
	key := testKey(f, 1)
	text, err := example([]manifest.File{manifest.Describe("a", nil)}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	good, err := seal(text, key, Release{Name: "sql", Serial: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, file []byte) {
		signed, err := OpenSigned(file)
		if err == nil && signed.By.ID() == key.Public().ID() && !bytes.Equal(file, good) {
			t.Errorf("accepted %q", file)
		}
	})
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

// TestFlippedBits flips a bit in every fifth byte of each file of a signed artifact, and removes
// each file. Package dsse tests every bit of an envelope.
func TestFlippedBits(t *testing.T) {
	dir, key := makeArtifact(t), testKey(t, 1)
	if _, err := Sign(dir, key, Release{Name: "sql", Serial: 3}); err != nil {
		t.Fatal(err)
	}
	for name, content := range contents(t, dir) {
		path := filepath.Join(dir, name)
		for i := 0; i < len(content); i += 5 {
			bad := []byte(content)
			bad[i] ^= 1 << (i % 8)
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			if len(faults(t, dir, key.Public())) == 0 {
				t.Fatalf("bit %d of byte %d of %s", i%8, i, name)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if len(faults(t, dir, key.Public())) == 0 {
			t.Errorf("%s is missing", name)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForged: an attacker without the key changes all files of an artifact consistently, except for
// the signature.
func TestForged(t *testing.T) {
	key := testKey(t, 1)
	dir, other := makeArtifact(t), makeArtifact(t)
	if _, err := Sign(dir, key, Release{Name: "sql", Serial: 3}); err != nil {
		t.Fatal(err)
	}
	forged := contents(t, other)
	delete(forged, artifact.SumsFile)
	envelope, err := os.ReadFile(filepath.Join(dir, artifact.SignedFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, artifact.SignedFile), envelope, 0o644); err != nil {
		t.Fatal(err)
	}
	statement, err := Decode([]byte(forged[artifact.ProvenanceFile]))
	if err != nil {
		t.Fatal(err)
	}
	statement.Predicate.RunDetails.Builder.Version["sov"] = "v6.6.6"
	text, err := statement.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, artifact.ProvenanceFile), text, 0o644); err != nil {
		t.Fatal(err)
	}
	v, err := Verify(other, key.Public())
	if err != nil || len(v.Problems) != 1 || !strings.Contains(v.Problems[0].Found, "is about another statement") {
		t.Errorf("got %+v, %v", v, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := example([]manifest.File{manifest.Describe("a", nil)}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]string{
		"type":      "in-toto.io/Statement/v1|in-toto.io/Statement/v2",
		"predicate": "slsa.dev/provenance/v1|slsa.dev/provenance/v9",
		"build":     "build-type-v1|build-type-v2",
		"name":      `"name": "a"|"name": ""`,
		"digest":    `"sha256": "e3|"sha256": "zz`,
		"more":      "\n}\n|\n}\n{}",
	} {
		old, changed, _ := strings.Cut(change, "|")
		bad := strings.Replace(string(good), old, changed, 1)
		if _, err := Decode([]byte(bad)); bad == string(good) || err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, err := example([]manifest.File{manifest.Describe("a", nil)}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, src []byte) {
		defer costtest.Text.Watch(t, len(src))()
		s, err := Decode(src)
		if err != nil {
			return
		}
		text, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(text); err != nil {
			t.Errorf("what was read cannot be written: %v\n%s", err, text)
		}
		s.Check([]manifest.File{manifest.Describe("a", nil)})
	})
}
