package bound

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func compress(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExpanded(t *testing.T) {
	random := make([]byte, 100<<10)
	rand.NewChaCha8([32]byte{}).Read(random)
	limit := Limit{Bytes: 1 << 20, Free: 10 << 10, Ratio: 100}
	for name, tc := range map[string]struct {
		content []byte
		want    string
	}{
		"small":             {make([]byte, 10<<10), ""},
		"random":            {random, ""},
		"random, then many": {append(bytes.Clone(random), make([]byte, 900<<10)...), ""},
		"text":              {bytes.Repeat([]byte("The text of a book compresses like this one.\n"), 400), ""},
		"zeros":             {make([]byte, 500<<10), "out of proportion"},
		"absolute":          {bytes.Repeat(random, 11), "expands to more than 1048576 bytes"},
	} {
		source := NewSource(bytes.NewReader(compress(t, tc.content)))
		z, err := gzip.NewReader(source)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(limit.Expanded(z, source))
		switch {
		case tc.want == "" && (err != nil || !bytes.Equal(got, tc.content)):
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		case tc.want != "" && (!errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %d bytes, %v, want %s", name, len(got), err, tc.want)
		}
	}
}

func TestReadFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("ten bytes."), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadFile(name, 10); err != nil || len(b) != 10 {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := ReadFile(name, 9); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v", err)
	}
	if _, err := ReadFile("/dev/zero", 1<<20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if _, err := ReadFile(name+"x", 9); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
