package datadisk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// TestEnsure makes disks of all kinds. Ensure does not change an existing disk of another kind.
func TestEnsure(t *testing.T) {
	for _, kind := range []Spec{{}, {Encrypted: true}, {Volume: "media"}, {Volume: "media", Encrypted: true}} {
		path := filepath.Join(t.TempDir(), "data.img")
		kind.Size = MinSize
		for _, want := range []string{"made", ""} {
			if done, err := kind.Ensure(t.Context(), path); err != nil || done != want {
				t.Fatalf("%+v: %q, %v, want %q", kind, done, err, want)
			}
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// The guest finds the disk by s_volume_name of ext4's superblock, or by the mark of a new
		// disk.
		label, at := kind.label(), 1024+0x78
		if kind.Encrypted {
			label, at = guestspec.NewDiskMark(label), guestspec.NewDiskOffset
		}
		if !strings.HasPrefix(string(before[at:]), label) {
			t.Errorf("%+v: it does not have %q at %d", kind, label, at)
		}
		other := kind
		other.Size, other.Encrypted = 2*MinSize, !kind.Encrypted
		var mismatch *MismatchError
		if _, err := other.Ensure(t.Context(), path); !errors.As(err, &mismatch) || mismatch.Encrypted != kind.Encrypted || mismatch.Volume != kind.Volume {
			t.Errorf("the other kind: %v", err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Error("the disk of the other kind was changed")
		}
		kind.Size = 2 * MinSize
		if done, err := kind.Ensure(t.Context(), path); err != nil || done != "enlarged" {
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
		"new":           {guestspec.NewDiskOffset, guestspec.NewDiskMark(guestspec.DataLabel), ToEncrypt},
		"new volume":    {guestspec.NewDiskOffset, guestspec.NewDiskMark(guestspec.VolumeLabel("media")), Plain}, // a volume is not the data disk
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
		if got, err := (Spec{}).Look(path); err != nil || got != tt.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, tt.want)
		}
		f.Close()
	}
}
