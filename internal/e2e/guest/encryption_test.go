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

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/canary"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// withKeys returns the secrets of a machine with an encrypted data disk.
func withKeys(key, old string) map[string]string {
	secrets := map[string]string{guestspec.SecretDataKey: key}
	if old != "" {
		secrets[guestspec.SecretOldDataKey] = old
	}
	return secrets
}

// TestEncryptedData tests an encrypted data disk with the guest's cryptsetup: first start, restart,
// growth under a writer, a wrong key, a change of the key that a power cut interrupts, and no key.
// The machine also has a plain and an encrypted volume, and a volume of the base image.
func TestEncryptedData(t *testing.T) {
	t.Parallel()
	const wrong = "a-key-of-another-disk"
	row, firstKey, secondKey := canary.New(), canary.New(), canary.New()
	first, second := firstKey.Text, secondKey.Text
	options := localvm.Options{
		Artifact: guesttest.BuildWriterOn(t, []string{"--image", sovtest.ImageThatRuns(t, "arm64", func(c *v1.Config) {
			c.Entrypoint, c.Cmd = []string{"/bin/sh", "-c"}, []string{"echo started >>/var/lib/app/starts && exec sleep 1000000"}
			c.User, c.Volumes = "1000", map[string]struct{}{"/var/lib/app": {}}
		})}, "  data: 256MiB", "  data: 256MiB\n  encrypt: true", "services:\n",
			"volumes: [{name: plain, size: 256MiB, path: /srv/plain}, {name: secret, size: 256MiB, path: /srv/secret, encrypted: true, mode: \"0700\"}]\n"+
				"services:\n  - {name: app, command: image}\n"),
		State: t.TempDir(), Secrets: withKeys(first, ""),
	}
	image := filepath.Join(options.State, "data.img")
	g := guesttest.Boot(t, options)
	if d := dataOf(t, g); d.Encryption != guestapi.LUKS2 || d.OldKey || d.Size < 200<<20 {
		t.Errorf("the status says %+v", d)
	}
	if got := g.Shell(t, "grep ' /data ' /proc/mounts"); len(got) != 1 || !strings.HasPrefix(got[0], "/dev/mapper/sov-data /data ext4 ") {
		t.Errorf("/data is %q", got)
	}
	const mounts = "/dev/vdd /srv/plain ext4 rw,nosuid,nodev,noatime\n/dev/mapper/vol-secret /srv/secret ext4 rw,nosuid,nodev,noatime\n700 root /srv/secret"
	if got := strings.Join(g.Shell(t, "grep ' /srv/' /proc/mounts | cut -d' ' -f1-4 | sed 's/,errors.*//'; stat -c '%a %U %n' /srv/secret"), "\n"); got != mounts {
		t.Errorf("the volumes are %s", got)
	}
	if v := volumesOf(t, g); len(v) != 2 || v[0].Name != "plain" || v[0].Encryption != "" || v[1].Encryption != guestapi.LUKS2 || v[1].Fault != "" || v[1].Size > 256<<20 {
		t.Errorf("the status says %+v", v)
	}
	g.Shell(t, "echo "+row.Text+" >/data/kept && cp /data/kept /srv/secret/ && echo for all to read >/srv/plain/kept && sync")
	small := dataOf(t, g).Size
	if err := g.GrowData(t.Context(), 1<<30); err != nil {
		t.Fatal(err)
	}
	until(t, g, "larger", func(d guestapi.Data) bool { return d.Size > small+700<<20 })
	// Discarded blocks in the guest use no space here.
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

	plain, secret := filepath.Join(options.State, "volume-plain.img"), filepath.Join(options.State, "volume-secret.img")
	guesttest.Fsck(t, plain)
	for _, volume := range []string{plain, secret} {
		if err := os.Truncate(volume, 1<<30); err != nil {
			t.Fatal(err)
		}
	}

	// A wrong key does not change the disk.
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

	// The power is cut after the new key is added, while the old one still opens the disk.
	options.Secrets = withKeys(second, first)
	g = guesttest.PowerOn(t, options)
	sovtest.Await(t, sovtest.WaitLimit, "a new key", func() bool { return strings.Contains(g.Log(t), "data disk has a new key") })
	g.CutPower(t)
	g = guesttest.Boot(t, options)
	wantKept(t, g, row)
	sovtest.Await(t, sovtest.WaitLimit, "larger volumes", func() bool {
		v := volumesOf(t, g)
		return v[0].Size > 900<<20 && v[1].Size > 900<<20
	})
	g.Stop(t)
	g.CutPower(t)
	options.Secrets = withKeys(first, "")
	refused(t, options, "the key does not open it")
	options.Secrets = withKeys(second, "")
	g = guesttest.Boot(t, options)
	wantKept(t, g, row)
	// The volume of the image is on the data disk and belongs to the image's user.
	if got := g.Shell(t, "readlink /var/lib/app; stat -c '%U' /data/app/var/lib/app; cat /data/app/var/lib/app/starts"); len(got) < 5 ||
		got[0] != "/data/app/var/lib/app" || got[1] != "image-1000" || got[2] != "started" {
		t.Errorf("the volume of the image: %q", got)
	}
	if log := g.Log(t); strings.Contains(log, second) || strings.Contains(log, first) {
		t.Error("a key stands on the console")
	}
}

// refused starts a machine that cannot open its data disk. The machine must report why.
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
	if got := g.Shell(t, "cat /data/kept /srv/secret/kept /srv/plain/kept"); len(got) != 3 || got[0] != c.Text || got[1] != c.Text || got[2] != "for all to read" {
		t.Errorf("the files hold %q", got)
	}
	for _, v := range volumesOf(t, g) {
		if v.OldKey {
			t.Errorf("the status says %+v\n%s", v, g.Log(t))
		}
	}
	if d := dataOf(t, g); d.OldKey {
		t.Errorf("the status says %+v\n%s", d, g.Log(t))
	}
}

func volumesOf(t *testing.T, g *guesttest.Guest) []guestapi.Volume {
	t.Helper()
	status, err := g.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.Volumes
}

// digest returns the SHA-256 of a file.
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

// allocated returns the bytes that a file uses on disk.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	return s.Blocks * 512
}
