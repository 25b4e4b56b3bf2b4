package guest

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/canary"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// withKeys are the secrets of a machine with an encrypted data disk.
func withKeys(key, old string) map[string]string {
	secrets := map[string]string{guestspec.SecretDataKey: key}
	if old != "" {
		secrets[guestspec.SecretOldDataKey] = old
	}
	return secrets
}

// TestEncryptedData takes an encrypted data disk through its life, with the cryptsetup of the guest: first start, restart, growth
// under a writer, a wrong key, a change of the key that a power cut interrupts, and no key.
func TestEncryptedData(t *testing.T) {
	t.Parallel()
	const wrong = "a-key-of-another-disk"
	row, firstKey, secondKey := canary.New(), canary.New(), canary.New()
	first, second := firstKey.Text, secondKey.Text
	options := localvm.Options{
		Artifact: guesttest.BuildWriter(t, "  data: 256MiB", "  data: 256MiB\n  encrypt: true"),
		State:    t.TempDir(), Secrets: withKeys(first, ""),
	}
	image := filepath.Join(options.State, "data.img")
	g := guesttest.Boot(t, options)
	if d := dataOf(t, g); d.Encryption != guestapi.LUKS2 || d.OldKey || d.Size < 200<<20 {
		t.Errorf("the status says %+v", d)
	}
	if got := g.Shell(t, "grep ' /data ' /proc/mounts"); len(got) != 1 || !strings.HasPrefix(got[0], "/dev/mapper/sov-data /data ext4 ") {
		t.Errorf("/data is %q", got)
	}
	g.Shell(t, "echo "+row.Text+" >/data/kept && sync")
	small := dataOf(t, g).Size
	if err := g.GrowData(t.Context(), 1<<30); err != nil {
		t.Fatal(err)
	}
	until(t, g, "larger", func(d guestapi.Data) bool { return d.Size > small+700<<20 })
	// What is discarded in the guest takes no room here.
	g.Shell(t, "dd if=/dev/urandom of=/data/big bs=1M count=64 2>/dev/null && sync")
	full := allocated(t, image)
	g.Shell(t, "rm /data/big && sync && fstrim /data")
	if now := allocated(t, image); now > full-48<<20 {
		t.Errorf("the file takes %d MiB, and %d MiB after 64 MiB were discarded", full>>20, now>>20)
	}
	g.Stop(t)
	g.CutPower(t)
	for what, c := range map[string]canary.Canary{"a row": row, "the key": firstKey} {
		if found := c.InFiles(t, time.Time{}, options.State); len(found) > 0 {
			t.Errorf("%s stands in %q", what, found)
		}
	}

	// A wrong key changes no byte.
	before := digest(t, image)
	options.Secrets = withKeys(wrong, "")
	refused(t, options, "the key does not open it")
	options.Secrets = withKeys(wrong, wrong+"-too")
	refused(t, options, "the key does not open it")
	if after := digest(t, image); after != before {
		t.Error("a wrong key has changed the data disk")
	}
	options.Secrets = nil
	if _, err := localvm.Start(t.Context(), options); err == nil || !strings.Contains(err.Error(), "sov secrets set small data-key") {
		t.Errorf("without a key: %v", err)
	}

	// The power is cut once the new key is added, while the old one still opens the disk.
	options.Secrets = withKeys(second, first)
	g = guesttest.PowerOn(t, options)
	sovtest.Await(t, sovtest.WaitLimit, "a new key", func() bool { return strings.Contains(g.Log(t), "data disk has a new key") })
	g.CutPower(t)
	g = guesttest.Boot(t, options)
	wantKept(t, g, row)
	g.Stop(t)
	g.CutPower(t)
	options.Secrets = withKeys(first, "")
	refused(t, options, "the key does not open it")
	options.Secrets = withKeys(second, "")
	g = guesttest.Boot(t, options)
	wantKept(t, g, row)
	if log := g.Log(t); strings.Contains(log, second) || strings.Contains(log, first) {
		t.Error("a key stands on the console")
	}
}

// refused starts a machine whose data disk does not open: it says why, and runs no service.
func refused(t *testing.T, options localvm.Options, why string) {
	t.Helper()
	g := guesttest.PowerOn(t, options)
	err := g.Ready(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("got %v, want %q\n%s", err, why, g.Log(t))
	}
	g.Stop(t)
	g.CutPower(t)
}

func wantKept(t *testing.T, g *guesttest.Guest, c canary.Canary) {
	t.Helper()
	if got := g.Shell(t, "cat /data/kept"); len(got) != 1 || got[0] != c.Text {
		t.Errorf("the file holds %q", got)
	}
	if d := dataOf(t, g); d.OldKey {
		t.Errorf("the status says %+v\n%s", d, g.Log(t))
	}
}

// digest is the SHA-256 of a file.
func digest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// allocated is the room that a file takes, in bytes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	return s.Blocks * 512
}
