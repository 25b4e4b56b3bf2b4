package backup

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// sample is a stream of roles and two databases.
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

// Every byte counts, and a stream that is cut anywhere is no stream.
func TestStream(t *testing.T) {
	whole := sample(t)
	if parts, err := read(whole); err != nil || len(parts) != 3 || parts[1].Database.Name != "shop" {
		t.Fatalf("%+v, %v", parts, err)
	}
	for i := range whole {
		if _, err := read(whole[:i]); err == nil {
			t.Errorf("the first %d of %d bytes are taken for the whole", i, len(whole))
		}
		damaged := slices.Clone(whole)
		damaged[i] ^= 0x40
		if _, err := read(damaged); err == nil {
			t.Errorf("byte %d of %d was changed, which nobody sees", i, len(whole))
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
	if !slices.Equal(names, []string{"roles.sql", "shop.dump", "database-2.dump"}) {
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

	// A stream that breaks leaves the older file as it was, and nothing beside it.
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

	// Damage is seen, wherever it is in the content.
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
			t.Errorf("%s: nobody sees it", name)
		}
	}
}

// FuzzStream: no stream makes the reader panic or read without end, and what it takes is what a writer wrote.
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

// FuzzOpen: likewise for files.
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
