package datadisk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestGrow(t *testing.T) {
	name := filepath.Join(t.TempDir(), "data.img")
	if _, err := Grow(name, MinSize); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a disk that is not there: %v", err)
	}
	if err := os.WriteFile(name, []byte("the user's"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		to, want int64
		grown    bool
	}{
		{MinSize + 1, MinSize, true},
		{MinSize, MinSize, false},
		{8 << 30, 8 << 30, true},
		{1 << 30, 8 << 30, false}, // never smaller
	} {
		grown, err := Grow(name, tt.to)
		if err != nil || grown != tt.grown {
			t.Errorf("to %d: %v, %v", tt.to, grown, err)
		}
		info, err := os.Stat(name)
		if err != nil || info.Size() != tt.want {
			t.Errorf("to %d: it has %d bytes, %v, want %d", tt.to, info.Size(), err, tt.want)
		}
	}
	if _, err := Grow(name, MaxSize+sizeUnit); err == nil {
		t.Error("a disk of more than 1 TiB")
	}
	head := make([]byte, 10)
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(head, 0); err != nil || string(head) != "the user's" {
		t.Errorf("it begins with %q, %v", head, err)
	}
}
