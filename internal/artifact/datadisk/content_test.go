package datadisk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// TestEnsure makes disks of both kinds, and leaves one of the other kind as it is.
func TestEnsure(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "data.img")
		for _, want := range []string{"made", ""} {
			if done, err := Ensure(t.Context(), path, MinSize, encrypted); err != nil || done != want {
				t.Fatalf("encrypted %t: %q, %v, want %q", encrypted, done, err, want)
			}
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var mismatch *MismatchError
		if _, err := Ensure(t.Context(), path, 2*MinSize, !encrypted); !errors.As(err, &mismatch) || mismatch.Encrypted != encrypted {
			t.Errorf("the other kind: %v", err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Error("the disk of the other kind was changed")
		}
		if done, err := Ensure(t.Context(), path, 2*MinSize, encrypted); err != nil || done != "enlarged" {
			t.Errorf("a larger one: %q, %v", done, err)
		}
	}
}

func TestLook(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		at   int64
		text string
		want Content
	}{
		"nothing":       {0, "", Plain},
		"new":           {guestspec.NewDiskOffset, guestspec.NewDiskMark, ToEncrypt},
		"LUKS2":         {0, magicFirst, Encrypted},
		"second header": {secondOffset, magicSecond, Encrypted},
		"shifted":       {1, magicFirst, Plain},
	} {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte(tt.text), tt.at); err != nil {
			t.Fatal(err)
		}
		if got, err := Look(path); err != nil || got != tt.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, tt.want)
		}
		f.Close()
	}
}
