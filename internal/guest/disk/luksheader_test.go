//go:build linux

package disk

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// TestLUKSLabel reads headers that cryptsetup wrote, and damaged ones.
func TestLUKSLabel(t *testing.T) {
	cryptsetup, err := exec.LookPath("cryptsetup")
	if err != nil {
		t.Skip("cryptsetup is not installed")
	}
	dir := t.TempDir()
	image, key := filepath.Join(dir, "data.img"), filepath.Join(dir, "key")
	must(t, os.WriteFile(key, []byte("a key"), 0o600))
	must(t, datadisk.Spec{Size: 128 << 20, Encrypted: true}.Create(t.Context(), image))
	if _, found, err := luksLabel(image); found || err != nil || !isNew(image, guestspec.DataLabel) {
		t.Errorf("a new disk: found %t, %v, new %t", found, err, isNew(image, guestspec.DataLabel))
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(cryptsetup, args...).CombinedOutput(); err != nil {
			t.Fatalf("cryptsetup %q: %v\n%s", args, err, out)
		}
	}
	run("luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--offset", "32768", "--label", unformatted(guestspec.DataLabel), image, key)
	if !isNew(image, guestspec.DataLabel) {
		t.Error("the header has taken the mark of a new disk away")
	}
	run("config", image, "--label", guestspec.DataLabel)
	want := func(when, label string, whole bool) {
		t.Helper()
		got, found, err := luksLabel(image)
		if got != label || !found || (err == nil) != whole {
			t.Errorf("%s: label %q, found %t, %v", when, got, found, err)
		}
	}
	want("after cryptsetup", guestspec.DataLabel, true)

	// A power cut between the writes of the two copies leaves one copy older. A power cut during a
	// write leaves that copy damaged.
	first := read(t, image, 0, luksSecondOffset)
	run("config", image, "--label", "newer")
	want("after another change", "newer", true)
	write(t, image, 0, first)
	want("with an older first copy", "newer", true)
	write(t, image, luksSecondOffset+luksBinarySize, []byte("damage"))
	want("with a damaged second copy", guestspec.DataLabel, true)
	write(t, image, luksBinarySize, []byte("damage"))
	want("with both copies damaged", "", false)
	write(t, image, guestspec.NewDiskOffset, make([]byte, 64))
	if _, err := (&Data{Spec: guestspec.Data{Label: guestspec.DataLabel, Device: image}}).findEncrypted(0); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged disk: %v", err)
	}
}

func read(t *testing.T, path string, at int64, n int) []byte {
	t.Helper()
	text, err := readAt(path, at, n)
	must(t, err)
	return []byte(text)
}

func write(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt(b, at)
	must(t, err)
}
