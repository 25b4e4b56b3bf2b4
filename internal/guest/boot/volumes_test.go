//go:build linux

package boot

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// library returns a service with saved data on the data disk and on a volume.
func library() guestspec.Service {
	s := sleeper("library")
	s.User = "postgres"
	s.Directories = []guestspec.Directory{{Path: "/data/library", User: "postgres"}, {Path: "/srv/media/books", Mode: "0750", User: "postgres"}}
	s.Prepare = []guestspec.Step{{Command: []string{"/bin/sh", "-c", `for d in /data/library /srv/media/books; do test -e $d/file || echo one >$d/file; done`}}}
	s.Backup = &guestspec.Backup{Paths: []string{"/data/library", "/srv/media/books"}}
	return s
}

// TestVolumes boots a guest with two volumes, makes a backup, restores it, shuts the guest down,
// and boots it without one of the volumes.
func TestVolumes(t *testing.T) {
	reader := shell("reader", `cat /srv/media/books/file; echo x >/srv/media/x; echo x >/srv/pictures/x && echo wrote; stat -c 'restore %a' /srv/media/.sov-restore; echo tried; while :; do sleep 1; done`)
	reader.User, reader.Rights.Write = "nobody", []string{"/srv/pictures"}
	b := newBox(t, library(), reader)
	b.write(t, "etc/group", "root:x:0:\npostgres:x:70:\nnogroup:x:65534:\nmedia:x:71:\n")
	b.spec.Data.Wait = 1 // all disks are attached already
	b.spec.Volumes = []guestspec.Volume{
		{Name: "media", Directory: guestspec.Directory{Path: "/srv/media", Mode: "0751", User: "postgres", Group: "media"}},
		{Name: "pictures", Directory: guestspec.Directory{Path: "/srv/pictures", User: "nobody"}},
	}
	dir := t.TempDir()
	// The volumes are attached in another order than in the specification: the guest must not
	// identify them by their order.
	for _, name := range []string{"pictures", "media"} {
		image := filepath.Join(dir, name+".img")
		must(t, datadisk.Spec{Volume: name, Size: 256 << 20}.Create(t.Context(), image))
		b.volumes = append(b.volumes, image)
		must(t, os.MkdirAll(filepath.Join(b.root, "srv", name), 0o755))
	}
	v := b.boot(t)
	v.waitReady()
	v.waitLine("out reader: tried")
	for _, want := range []string{"cat: /srv/media/books/file: ", "cannot create /srv/media/x", "out reader: wrote", "out reader: restore 0"} {
		if !strings.Contains(v.text(), want) {
			t.Errorf("the other service: the console lacks %q", want)
		}
	}
	look := func(script string) string {
		t.Helper()
		out, err := v.run("/bin/sh", "-c", script)
		must(t, err)
		return out
	}
	const want = "/srv/media ext4 rw,nosuid,nodev,noatime\n/srv/pictures ext4 rw,nosuid,nodev,noatime\n751 postgres media /srv/media\n755 nobody nogroup /srv/pictures"
	if got := look("grep ' /srv/' /proc/mounts | cut -d' ' -f2-4; stat -c '%a %U %G %n' /srv/media /srv/pictures"); strings.ReplaceAll(got, ",errors=remount-ro", "") != want {
		t.Errorf("mounted: %s", got)
	}
	status := v.status()
	if len(status.Volumes) != 2 || status.Volumes[0].Name != "media" || status.Volumes[0].Path != "/srv/media" || status.Volumes[0].Size < 200<<20 || status.Volumes[1].Fault != "" {
		t.Errorf("the status says %+v", status.Volumes)
	}

	// A backup has a part for each disk, which is restored to that disk.
	code, stream := v.stream(http.MethodGet, guestapi.PathBackup, token, nil)
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, stream)
	}
	var parts []string
	for r := backup.NewReader(bytes.NewReader(stream)); ; {
		part, _, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		parts = append(parts, part.Service.Name+" "+strings.Join(part.Service.Paths, " "))
	}
	if got := strings.Join(parts, ", "); got != "library /data/library, library /srv/media/books" {
		t.Errorf("the parts are %s", got)
	}
	look("for d in /data/library /srv/media/books; do echo two >$d/file; touch $d/new; done")
	code, answer := v.stream(http.MethodPost, guestapi.PathRestore, token, bytes.NewReader(stream))
	if did := lastEvent(t, answer); code != http.StatusOK || did.Done == nil || strings.Join(did.Done.Services, " ") != "library" {
		t.Fatalf("%d %s", code, answer)
	}
	if got := look("cd /; cat data/library/file srv/media/books/file; ls data/library srv/media/books data/.sov-restore srv/media/.sov-restore srv/pictures/.sov-restore"); got !=
		"one\none\ndata/.sov-restore:\n\ndata/library:\nfile\n\nsrv/media/.sov-restore:\n\nsrv/media/books:\nfile\n\nsrv/pictures/.sov-restore:" {
		t.Errorf("restored: %s", got)
	}
	v.waitService("library", "ready again", func(s guestapi.Service) bool { return s.State == guestapi.StateReady })
	v.shutDown()
	b.wantCleanDisk(t)
	if text := v.text(); !strings.Contains(text, "volume media unmounted") || !strings.Contains(text, "volume pictures unmounted") {
		t.Error("the volumes are not unmounted")
	}

	// If a volume is missing, no service starts and no empty folder replaces it.
	b.volumes = b.volumes[:1]
	v = b.boot(t)
	v.waitLine("error init: volume media: no disk with the ext4 label vol-media: is it attached, and was it made?")
	for _, name := range []string{"library", "reader"} {
		v.waitService(name, "blocked", func(s guestapi.Service) bool {
			return s.State == guestapi.StateFailed && strings.HasPrefix(s.Reason, "the volume media is not mounted: no disk")
		})
	}
	if status := v.status(); status.Ready || !strings.HasPrefix(status.Volumes[0].Fault, "no disk") || status.Volumes[1].Fault != "" {
		t.Errorf("without a volume: %+v", status.Volumes)
	}
	if got := look("ls /srv/media"); got != "" {
		t.Errorf("on the mount point there is %s", got)
	}
	v.shutDown()
}
