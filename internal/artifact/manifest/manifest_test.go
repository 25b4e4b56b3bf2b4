package manifest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// makeArtifact writes a directory with two files, their manifest and SHA256SUMS.
func makeArtifact(t *testing.T) (dir string, m *Manifest) {
	t.Helper()
	dir = t.TempDir()
	contents := map[string][]byte{"kernel": []byte("not a kernel"), "rootfs.img": bytes.Repeat([]byte("x"), 3<<20)}
	m = &Manifest{Format: Format, Name: "sql", Version: "1", Arch: "arm64",
		Inputs: []Input{{Kind: "package", Name: "musl", Version: "1.2>1", Digest: "Q1x="}}}
	for _, name := range []string{"kernel", "rootfs.img"} {
		write(t, dir, name, contents[name])
		m.Files = append(m.Files, Describe(name, contents[name]))
	}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, artifact.ManifestFile, text)
	write(t, dir, artifact.SumsFile, SumsFile(append([]File{Describe(artifact.ManifestFile, text)}, m.Files...)))
	return dir, m
}

func write(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	dir, want := makeArtifact(t)
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is not a built artifact") {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestSumsForCoreutils(t *testing.T) {
	if _, err := exec.LookPath("sha256sum"); err != nil {
		t.Skip("sha256sum is not installed")
	}
	dir, _ := makeArtifact(t)
	c := exec.Command("sha256sum", "--check", "--strict", artifact.SumsFile)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestVerify(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  []string // prefixes of the problems
	}{
		{"nothing", func(*testing.T, string) {}, nil},
		{"a stranger's file", func(t *testing.T, dir string) { write(t, dir, "data.img", nil) }, nil},
		{"a flipped bit", func(t *testing.T, dir string) { write(t, dir, "kernel", []byte("not b kernel")) }, []string{"kernel: has SHA-256"}},
		{"a shorter file", func(t *testing.T, dir string) { write(t, dir, "rootfs.img", []byte("x")) }, []string{"rootfs.img: has 1 bytes"}},
		{"a missing file", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "kernel")) }, []string{"kernel: is missing"}},
		{"a link", func(t *testing.T, dir string) {
			os.Rename(filepath.Join(dir, "kernel"), filepath.Join(dir, "elsewhere"))
			os.Symlink("elsewhere", filepath.Join(dir, "kernel"))
		}, []string{"kernel: is not a regular file"}},
		{"other sums", func(t *testing.T, dir string) { write(t, dir, artifact.SumsFile, []byte("x")) }, []string{"SHA256SUMS: does not agree"}},
		{"no sums", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, artifact.SumsFile)) }, []string{"SHA256SUMS: is missing"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, _ := makeArtifact(t)
			tt.spoil(t, dir)
			problems, err := Verify(context.Background(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(problems) != len(tt.want) {
				t.Fatalf("got %v, want %v", problems, tt.want)
			}
			for i, p := range problems {
				if !strings.HasPrefix(p.String(), tt.want[i]) {
					t.Errorf("got %q, want %q…", p, tt.want[i])
				}
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := File{Name: "a", SHA256: strings.Repeat("0", 64)}
	for name, files := range map[string][]File{
		"path":    {{Name: "../a", SHA256: good.SHA256}},
		"itself":  {{Name: artifact.ManifestFile, SHA256: good.SHA256}},
		"twice":   {good, good},
		"no hash": {{Name: "a", SHA256: "00"}},
		"size":    {{Name: "a", SHA256: good.SHA256, Size: -1}},
		"line":    {{Name: "a\nb", SHA256: good.SHA256}},
	} {
		if _, err := (&Manifest{Format: Format, Files: files}).Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	for _, bad := range []string{"", "{}", `{"format": 2}`, `{"format": 1}{}`} {
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("decoded %q", bad)
		}
	}
}

// TestVerity: the file of a root hash must have the size of its data and hash tree.
func TestVerity(t *testing.T) {
	const data = 4096 * 129
	hash := strings.Repeat("ab", 32)
	file := File{Name: "rootfs.img", SHA256: strings.Repeat("0", 64), Size: data + (1+2+1)*4096}
	text, err := (&Manifest{Format: Format, Files: []File{file}, Verity: &Verity{"rootfs.img", data, hash}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := Decode(text); err != nil || m.Verity == nil || m.Verity.RootHash != hash {
		t.Errorf("%+v, %v", m, err)
	}
	for says, v := range map[string]Verity{
		"is not listed":       {"kernel", data, hash},
		"must be a positive":  {"rootfs.img", data + 1, hash},
		"has 544768 bytes":    {"rootfs.img", data + 4096, hash},
		"is not a root hash":  {"rootfs.img", data, hash[2:]},
		"multiple of 4096":    {"rootfs.img", -4096, hash},
		"must be 64 lower-ca": {"rootfs.img", data, strings.ToUpper(hash)},
	} {
		if _, err := (&Manifest{Format: Format, Files: []File{file}, Verity: &v}).Encode(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %q", v, err, says)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format": 1, "files": [{"name": "a", "size": 1, "sha256": "` + strings.Repeat("0", 64) + `"}]}`))
	f.Add([]byte(`{"format": 1, "files": [{"name": "a", "size": 16384, "sha256": "` + strings.Repeat("0", 64) +
		`"}], "verity": {"file": "a", "data_size": 8192, "root_hash": "` + strings.Repeat("0", 64) + `"}}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		defer costtest.Text.Watch(t, len(src))()
		if m, err := Decode(src); err == nil {
			for _, file := range m.Files {
				if filepath.Base(file.Name) != file.Name {
					t.Errorf("%q leaves the directory", file.Name)
				}
			}
		}
	})
}
