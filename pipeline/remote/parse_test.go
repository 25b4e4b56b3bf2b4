package remote

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
	"github.com/sovereign-sql/sov/pipeline"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Spec{
		"registry.example.com/team/cache":                   {Repository: "registry.example.com/team/cache", Max: true},
		"type=registry,ref=registry.example.com/c,mode=min": {Repository: "registry.example.com/c"},
		"registry.example.com/c,mode=max,timeout=3s":        {Repository: "registry.example.com/c", Max: true, Patience: 3 * time.Second},
		"type=dir,dest=/mnt/c":                              {Path: "/mnt/c", Max: true},
		"type=dir,dest=c,mode=min":                          {Path: "c"},
	} {
		if got, err := ParseTarget(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	if got, err := ParseSource("type=dir,src=/c"); err != nil || got != (Spec{Path: "/c", Max: true}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"", ",", "type=dir", "type=dir,src=", "type=dir,dest=/c", "type=s3,src=x", "a,mode=max", "a,ref=b", "a,timeout=soon",
		"a,timeout=-1s", "type=registry", "type=registry,src=/x", "a,b"} {
		if got, err := ParseSource(text); err == nil {
			t.Errorf("source %q is %+v", text, got)
		}
	}
	if _, err := ParseTarget("a,mode=most"); err == nil {
		t.Error("mode=most is taken")
	}
	if _, err := Registry("registry.example.com/cache:tag", RegistryOptions{}); err == nil || !strings.Contains(err.Error(), "without a tag") {
		t.Errorf("a tag: %v", err)
	}
}

func TestOpenOnce(t *testing.T) {
	var o Opener
	one, err := o.Open(Spec{Path: "/c"})
	if err != nil {
		t.Fatal(err)
	}
	if other, err := o.Open(Spec{Path: "/c", Max: true}); err != nil || other != one {
		t.Error("the same cache is opened twice")
	}
}

// sampleIndex returns an index of one blob.
func sampleIndex(t testing.TB) []byte {
	t.Helper()
	p, _ := pack([]byte("content"))
	b, err := (&index{Format: format, Record: []byte(`{}`), Blobs: []keptBlob{
		{Blob: pipeline.Blob{Digest: pipeline.DigestOf([]byte("content")), Size: 7}, Pieces: []piece{p}},
	}}).encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzIndex(f *testing.F) {
	sample := sampleIndex(f)
	f.Add(sample)
	f.Add(bytes.Replace(sample, []byte(`"length":7`), []byte(`"length":-7`), 1))
	f.Add([]byte(`{"format":1,"record":null,"blobs":[{"digest":"","size":0,"pieces":null}]}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Text.Watch(t, len(b))()
		x, err := decodeIndex(b)
		if err != nil {
			return
		}
		for _, blob := range x.Blobs {
			var n int64
			for _, p := range blob.Pieces {
				if n += p.Length; p.Length <= 0 || n > blob.Size || n < 0 {
					t.Fatalf("a piece of %d bytes in a blob of %d", p.Length, blob.Size)
				}
			}
		}
	})
}

func FuzzArchive(f *testing.F) {
	path := f.TempDir() + "/sample.tar"
	archive, err := Create(path)
	if err != nil {
		f.Fatal(err)
	}
	p, stored := pack([]byte("content"))
	if _, err := archive.out.putPiece(f.Context(), p, stored); err != nil {
		f.Fatal(err)
	}
	key := strings.Repeat("a", 64)
	if err := archive.out.putIndex(f.Context(), key, sampleIndex(f), nil); err != nil {
		f.Fatal(err)
	}
	if err := archive.Commit(); err != nil {
		f.Fatal(err)
	}
	sample, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample)
	f.Add(sample[:len(sample)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Text.Watch(t, len(b))()
		a, err := readArchive(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, key := range a.order {
			if encoded, err := a.index(t.Context(), key); err == nil && len(encoded) > len(b) {
				t.Fatal("an index is longer than the file")
			}
		}
	})
}
