package offline

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func item(kind Kind, name, content string) Item {
	sum := sha256.Sum256([]byte(content))
	return Item{kind, name, int64(len(content)), hex.EncodeToString(sum[:])}
}

// example returns a bundle of three items. Two of them have the same content.
func example(t testing.TB) ([]byte, *Index) {
	t.Helper()
	contents := map[string]string{"small": "name: small\n", "Q1abc=": "package", "example.org/m/@v/v1.0.0.zip": "package"}
	x := &Index{Format: Format, Recipe: "small", Arch: "arm64", Items: []Item{
		item(Recipe, "small", contents["small"]), item(Package, "Q1abc=", "package"), item(Module, "example.org/m/@v/v1.0.0.zip", "package")}}
	var b bytes.Buffer
	err := Write(&b, x, func(i Item) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(contents[i.Name])), nil })
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), x
}

func file(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bundle")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// readAll opens a bundle and reads every item.
func readAll(path string) error {
	b, err := Open(path)
	if err != nil {
		return err
	}
	defer b.Close()
	for _, i := range b.Items {
		if _, err := b.Bytes(i.Kind, i.Name); err != nil {
			return err
		}
	}
	return nil
}

func TestWriteOpen(t *testing.T) {
	content, x := example(t)
	if again, _ := example(t); !bytes.Equal(content, again) {
		t.Error("the same items make another file")
	}
	path := file(t, content)
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, i := range x.Items {
		got, err := b.Bytes(i.Kind, i.Name)
		if err != nil || item(i.Kind, i.Name, string(got)) != i {
			t.Errorf("%s: %q, %v", i.Name, got, err)
		}
	}
	for _, none := range []*Bundle{nil, b} {
		if _, _, err := none.Open(Package, "Q1other="); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what is not there: %v", err)
		}
	}
	if n := bytes.Count(content, []byte("package\x00")); n != 1 {
		t.Errorf("the content that two items share is there %d times", n)
	}
}

func TestWriteRefuses(t *testing.T) {
	x := &Index{Format: Format, Items: []Item{item(Recipe, "small", "right")}}
	err := Write(io.Discard, x, func(Item) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("wrong")), nil })
	if err == nil || !strings.Contains(err.Error(), "damaged or tampered with") {
		t.Errorf("got %v", err)
	}
}

// TestDamage flips bits of names and contents, and truncates the file. Changes of tar's other
// fields (modes, padding) are accepted.
func TestDamage(t *testing.T) {
	content, _ := example(t)
	for n := 0; n < len(content); n += 7 {
		if err := readAll(file(t, content[:n])); err == nil {
			t.Fatalf("%d of %d bytes: no error", n, len(content))
		}
	}
	for _, part := range []string{"name: small", "package\x00", `"sha256"`, `"kind"`, "blobs/", IndexName} {
		at := bytes.Index(content, []byte(part))
		for bit := range 8 {
			bad := bytes.Clone(content)
			bad[at] ^= 1 << bit
			if err := readAll(file(t, bad)); err == nil {
				t.Errorf("bit %d of %q: no error", bit, part)
			}
		}
	}
}

// TestHostile opens malformed bundles that sov does not write.
func TestHostile(t *testing.T) {
	good := item(Package, "Q1abc=", "package")
	make := func(change func(x *Index, members map[string]string)) []byte {
		x := &Index{Format: Format, Items: []Item{good}}
		members := map[string]string{blobName(good.SHA256): "package"}
		change(x, members)
		text, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := member(w, IndexName, int64(len(text)), bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		for name, body := range members {
			if err := member(w, name, int64(len(body)), strings.NewReader(body)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	if err := readAll(file(t, make(func(*Index, map[string]string) {}))); err != nil {
		t.Fatal(err)
	}
	add := func(i Item) func(*Index, map[string]string) {
		return func(x *Index, _ map[string]string) { x.Items = append(x.Items, i) }
	}
	for name, tt := range map[string]struct {
		content []byte
		want    string
	}{
		"another format": {make(func(x *Index, _ map[string]string) { x.Format = 2 }), "its format is 2"},
		"a path":         {make(add(item(Module, "../../etc/x", "package"))), "not a path below a folder"},
		"absolute":       {make(add(item(Module, "/etc/x", "package"))), "not a path below a folder"},
		"hidden":         {make(add(item(Module, "a/.git", "package"))), "not a path below a folder"},
		"twice":          {make(add(good)), "listed twice"},
		"no digest":      {make(add(Item{Package, "x", 1, "abc"})), "no proper name"},
		"negative":       {make(add(Item{Package, "x", -1, good.SHA256})), "no proper name"},
		"another name":   {make(add(Item{KernelSource, strings.Repeat("0", 64), good.Size, good.SHA256})), "named for another SHA-256"},
		"another layer":  {make(add(Item{Layer, good.SHA256, good.Size, good.SHA256})), "named for another SHA-256"},
		"two sizes":      {make(add(Item{Package, "x", 1, good.SHA256})), "another size"},
		"wrong content":  {make(func(_ *Index, m map[string]string) { m[blobName(good.SHA256)] = "packagE" }), "damaged or tampered with"},
		"wrong size":     {make(func(_ *Index, m map[string]string) { m[blobName(good.SHA256)] = "pack" }), "in place of"},
		"nothing":        {make(func(_ *Index, m map[string]string) { clear(m) }), "cut off"},
		"more":           {make(func(_ *Index, m map[string]string) { m["zzz"] = "x" }), ""},
		"another tar":    {[]byte("nothing of the kind"), "it is not a bundle"},
		"empty":          {nil, "it is not a bundle"},
	} {
		if err := readAll(file(t, tt.content)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	content, _ := example(f)
	f.Add(content)
	f.Add(content[:1024])
	f.Fuzz(func(t *testing.T, content []byte) {
		defer costtest.Text.Watch(t, len(content))()
		path := file(t, content)
		b, err := Open(path)
		if err != nil {
			return
		}
		defer b.Close()
		for _, i := range b.Items {
			got, err := b.Bytes(i.Kind, i.Name)
			if err == nil && item(i.Kind, i.Name, string(got)) != i {
				t.Errorf("%s %q is not what its SHA-256 says", i.Kind, i.Name)
			}
			if i.Kind == Module && !filepath.IsLocal(filepath.FromSlash(i.Name)) {
				t.Errorf("took %q for a path", i.Name)
			}
		}
	})
}
