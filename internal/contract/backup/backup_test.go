package backup

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// sample returns a stream of roles, two databases and a service.
func sample(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, p := range []struct {
		part    Part
		content string
	}{
		{Part{Kind: KindRoles}, "CREATE ROLE x;\n"},
		{Part{Kind: KindDatabase, Database: &Database{Name: "shop", Owner: "x"}}, strings.Repeat("PGDMP\x00", 1000)},
		{Part{Kind: KindDatabase, Database: &Database{Name: "../../etc/passwd"}}, ""},
		{Part{Kind: KindStream, Service: &Service{Name: "forge"}}, "what forge wrote"},
		{Part{Kind: KindPaths, Service: &Service{Name: "forge", Paths: []string{"/data/forge"}}}, "a tar"},
		{Part{Kind: KindPaths, Service: &Service{Name: "forge", Paths: []string{"/srv/media/forge"}}}, "a tar of another disk"},
	} {
		if err := errors.Join(w.Begin(p.part), w.Alive()); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, p.content)
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(stream []byte) (parts []Part, err error) {
	r := NewReader(bytes.NewReader(stream))
	for {
		p, content, err := r.Next()
		if err == io.EOF {
			return parts, nil
		}
		if err != nil {
			return parts, err
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return parts, err
		}
		parts = append(parts, p)
	}
}

// TestStream: a change of any byte is detected, and a stream that is cut anywhere is refused.
func TestStream(t *testing.T) {
	whole := sample(t)
	if parts, err := read(whole); err != nil || len(parts) != 6 || parts[1].Database.Name != "shop" {
		t.Fatalf("%+v, %v", parts, err)
	}
	for i := range whole {
		if _, err := read(whole[:i]); err == nil {
			t.Errorf("the first %d of %d bytes are taken for the whole", i, len(whole))
		}
		damaged := slices.Clone(whole)
		damaged[i] ^= 0x40
		if _, err := read(damaged); err == nil {
			t.Errorf("a change of byte %d of %d is not detected", i, len(whole))
		}
	}
	var b bytes.Buffer
	NewWriter(&b).Fail("the disk is full")
	if _, err := read(b.Bytes()); err == nil || err.Error() != "the disk is full" {
		t.Errorf("a stream that failed: %v", err)
	}
}

func TestArchive(t *testing.T) {
	whole := sample(t)
	path := filepath.Join(t.TempDir(), "b.zip")
	b, err := Create(path, Backup{Machine: "sql"}, NewReader(bytes.NewReader(whole)), Layer{})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	var names []string
	for _, f := range b.Files {
		names = append(names, f.Name)
	}
	if !slices.Equal(names, []string{"roles.sql", "shop.dump", "database-2.dump", "services/forge.stream", "services/forge.tar", "services/forge.2.tar"}) {
		t.Errorf("files are %q", names)
	}
	a, err := Open(path, Layer{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var out bytes.Buffer
	if err := a.Send(NewWriter(&out), Choice{Databases: []string{"shop"}}); err != nil {
		t.Fatal(err)
	}
	if parts, err := read(out.Bytes()); err != nil || len(parts) != 2 || parts[1].Database.Owner != "x" {
		t.Errorf("%+v, %v", parts, err)
	}

	out.Reset()
	if err := a.Send(NewWriter(&out), Choice{Services: []string{"forge"}}); err != nil {
		t.Fatal(err)
	}
	if parts, err := read(out.Bytes()); err != nil || len(parts) != 3 || parts[0].Kind != KindStream || parts[1].Service.Paths[0] != "/data/forge" || parts[2].Service.Paths[0] != "/srv/media/forge" {
		t.Errorf("of the service: %+v, %v", parts, err)
	}
	if all := a.All(); !slices.Equal(all.Services, []string{"forge"}) || len(all.Databases) != 2 {
		t.Errorf("all is %+v", all)
	}

	// An incomplete stream does not change the older file, and leaves no other file.
	older, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path, Backup{}, NewReader(bytes.NewReader(whole[:len(whole)-1])), Layer{}); err == nil {
		t.Error("a part of a stream is taken")
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, older) {
		t.Errorf("the older backup has changed: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}

	// Damage anywhere in the content is detected.
	at := bytes.Index(older, []byte("PGDMP"))
	damaged := slices.Clone(older)
	damaged[at+100] ^= 1
	for name, text := range map[string][]byte{"damaged": damaged, "cut": older[:len(older)/2], "empty": nil} {
		path := filepath.Join(t.TempDir(), "x.zip")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := Open(path, Layer{})
		if err == nil {
			err = a.Verify()
			a.Close()
		}
		if err == nil {
			t.Errorf("%s: it is not detected", name)
		}
	}
}

// TestOtherVersions: an archive with only databases has the format of an earlier sov. An earlier
// sov refuses an archive with services. This sov names the unknown part that it refuses.
func TestOtherVersions(t *testing.T) {
	archive := func(parts ...Part) (string, *Backup) {
		t.Helper()
		var b bytes.Buffer
		w := NewWriter(&b)
		for _, p := range parts {
			if err := errors.Join(w.Begin(p), w.End()); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "b.zip")
		made, err := Create(path, Backup{Machine: "sql"}, NewReader(&b), Layer{})
		if err != nil {
			t.Fatal(err)
		}
		return path, made
	}
	roles, shop := Part{Kind: KindRoles}, Part{Kind: KindDatabase, Database: &Database{Name: "shop"}}
	forge := Part{Kind: KindPaths, Service: &Service{Name: "forge", Paths: []string{"/data/forge"}}}
	if _, made := archive(roles, shop); made.Format != 1 {
		t.Errorf("databases have the format %d", made.Format)
	}
	if _, made := archive(roles, shop, forge); made.Format != 2 {
		t.Errorf("services have the format %d", made.Format)
	}
	path, made := archive(forge)
	if made.Format != 2 || len(made.Databases()) != 0 {
		t.Errorf("services alone: %+v", made)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"kind": "paths"`, `"kind": "moods"`, `a part of the kind "moods", which this sov does not know`},
		{`"format": 2`, `"format": 3`, "its format is 3"},
		{`"format": 2`, `"format": 1`, "does not match"},
		{`"/data/forge"`, `"/data/../etc"`, "does not match"},
	} {
		// rewrite also recomputes ZIP's checksums.
		path := filepath.Join(t.TempDir(), "x.zip")
		rewrite(t, text, path, c.old, c.new)
		_, err := Open(path, Layer{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.new, err, c.want)
		}
	}
	stream := bytes.NewBufferString(magic)
	w := &Writer{w: stream, sum: sha256.New()}
	w.sum.Write([]byte(magic))
	if err := w.Begin(Part{Kind: "moods"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewReader(stream).Next(); err == nil || !strings.Contains(err.Error(), `"moods"`) {
		t.Errorf("a stream: %v", err)
	}
	for _, s := range []*Service{nil, {}, {Name: "../forge"}, {Name: "forge", Paths: []string{"data"}}, {Name: "forge", Paths: []string{"/"}}, {Name: "forge"}, {Name: "forge", Paths: []string{"/a/../b"}}} {
		if p := (Part{Kind: KindPaths, Service: s}); p.valid() {
			t.Errorf("%+v is taken", s)
		}
	}
}

// rewrite writes a copy of an archive. Its index has new in place of old.
func rewrite(t *testing.T, archive []byte, path, old, new string) {
	t.Helper()
	from, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	to := zip.NewWriter(&b)
	for _, f := range from.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name == index {
			if !bytes.Contains(text, []byte(old)) {
				t.Fatalf("the index lacks %s: %s", old, text)
			}
			text = bytes.Replace(text, []byte(old), []byte(new), 1)
		}
		w, err := to.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		w.Write(text)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// FuzzStream: no stream makes the reader panic or read without end. It accepts only valid parts.
func FuzzStream(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte(magic + "X\x00\x00\x00\x04full"))
	f.Add([]byte(magic + "P\x00\x10\x00\x01{}"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		defer costtest.Text.Watch(t, len(stream))()
		parts, err := read(stream)
		if err != nil {
			return
		}
		for _, p := range parts {
			if !p.valid() {
				t.Errorf("%+v was taken", p)
			}
		}
	})
}

// FuzzOpen is FuzzStream for files.
func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "b.zip")
	if _, err := Create(path, Backup{Machine: "sql"}, NewReader(bytes.NewReader(sample(f))), Layer{}); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, text []byte) {
		defer costtest.Text.Watch(t, len(text))()
		path := filepath.Join(t.TempDir(), "x.zip")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := Open(path, Layer{})
		if err != nil {
			return
		}
		defer a.Close()
		if a.Verify() == nil {
			if err := a.Send(NewWriter(io.Discard), a.All()); err != nil {
				t.Errorf("it was verified, and cannot be sent: %v", err)
			}
		}
	})
}
