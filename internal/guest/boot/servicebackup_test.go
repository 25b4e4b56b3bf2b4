//go:build linux

package boot

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// saved returns the content of a stream by kind and service of each part.
func saved(t *testing.T, stream []byte) map[string][]byte {
	t.Helper()
	parts := map[string][]byte{}
	r := backup.NewReader(bytes.NewReader(stream))
	for {
		part, content, err := r.Next()
		if err == io.EOF {
			return parts
		}
		must(t, err)
		name := string(part.Kind)
		if part.Service != nil {
			name += " " + part.Service.Name
		}
		parts[name], err = io.ReadAll(content)
		must(t, err)
	}
}

// forge returns a service whose paths are saved, kv a service with backup and restore programs.
// Each records that it runs.
func forge() guestspec.Service {
	s := shell("forge", `trap 'echo bye; exit 0' TERM; echo running >/data/forge/state; echo up; while :; do sleep 1 & wait; done`)
	s.User = "nobody"
	s.Directories = []guestspec.Directory{{Path: "/data/forge", Mode: "0755", User: "nobody"}}
	s.Prepare = []guestspec.Step{{Command: []string{"/bin/sh", "-c", `test -e /data/forge/repos || { mkdir -p /data/forge/repos/a; echo one >/data/forge/repos/a/file; chmod 640 /data/forge/repos/a/file; ln -s a /data/forge/repos/b; }`}}}
	s.Backup = &guestspec.Backup{Paths: []string{"/data/forge"}}
	return s
}

func kv() guestspec.Service {
	s := sleeper("kv")
	s.User = "postgres"
	s.Directories = []guestspec.Directory{{Path: "/data/kv", Mode: "0700", User: "postgres"}}
	s.Prepare = []guestspec.Step{{Command: []string{"/bin/sh", "-c", "test -e /data/kv/value || echo first >/data/kv/value"}}}
	s.Backup = &guestspec.Backup{
		Command: []string{"/bin/sh", "-c", `id -un >&2; cat /data/forge/state >&2; cat /data/kv/value`},
		Restore: []string{"/bin/sh", "-c", `cat >/data/kv/value`},
	}
	return s
}

func TestServiceBackup(t *testing.T) {
	nightly := shell("nightly", "echo report >/data/nightly/report; echo reported")
	nightly.Schedule = "6h"
	nightly.Directories = []guestspec.Directory{{Path: "/data/nightly"}}
	nightly.Backup = &guestspec.Backup{Paths: []string{"/data/nightly/report"}}
	b := newBox(t, forge(), kv(), sleeper("plain"), nightly)
	v := b.boot(t)
	v.waitReady()
	v.waitLine("out forge: up")
	v.waitLine("out nightly: reported")
	pid := v.service("forge").PID
	code, stream := v.stream(http.MethodGet, guestapi.PathBackup, token, nil)
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, stream)
	}
	parts := saved(t, stream)
	if len(parts) != 3 || len(parts["paths nightly"]) == 0 || string(parts["stream kv"]) != "first\n" {
		t.Fatalf("%d parts, kv's is %q", len(parts), parts["stream kv"])
	}
	v.waitLine("out kv: postgres") // as its user
	v.waitLine("out kv: cat: /data/forge/state: Permission denied")
	var names []string
	files := tar.NewReader(bytes.NewReader(parts["paths forge"]))
	for {
		header, err := files.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		names = append(names, header.Name)
	}
	if got := strings.Join(names, " "); got != "data/forge/ data/forge/repos/ data/forge/repos/a/ data/forge/repos/a/file data/forge/repos/b data/forge/state" {
		t.Errorf("the tar holds %s", got)
	}
	again := v.waitService("forge", "ready again", func(s guestapi.Service) bool { return s.State == guestapi.StateReady })
	if again.PID == pid || again.Restarts != 0 || again.Failures != 0 {
		t.Errorf("after the backup: %+v, it had the number %d", again, pid)
	}

	look := func(script string) string {
		t.Helper()
		out, err := v.run("/bin/sh", "-c", script)
		must(t, err)
		return out
	}
	look("echo two >/data/forge/repos/a/file; rm /data/forge/repos/b; touch /data/forge/new; echo second >/data/kv/value")
	kept := func(what string) {
		t.Helper()
		if got := look("cat /data/forge/repos/a/file /data/kv/value; ls /data/forge /data/.sov-restore"); got != "two\nsecond\n/data/.sov-restore:\n\n/data/forge:\nnew\nrepos\nstate" {
			t.Errorf("after %s: %s", what, got)
		}
	}
	restore := func(stream []byte) backup.Event {
		t.Helper()
		code, answer := v.stream(http.MethodPost, guestapi.PathRestore, token, bytes.NewReader(stream))
		if code != http.StatusOK {
			t.Fatalf("%d %s", code, answer)
		}
		return lastEvent(t, answer)
	}
	for _, n := range []int{0, 1, 100, len(stream) / 2, len(stream) - 1} {
		if e := restore(stream[:n]); e.Done != nil || !strings.Contains(e.Fault, "nothing was changed") {
			t.Errorf("%d bytes of it: %+v", n, e)
		}
		kept(fmt.Sprintf("%d bytes of %d", n, len(stream)))
	}
	// What an attacker might put into a backup.
	for what, c := range map[string]struct {
		part   backup.Part
		header tar.Header
		want   string
	}{
		"up":            {paths("forge", "/data/forge"), tar.Header{Name: "data/forge/../kv/value"}, "not a plain name"},
		"other path":    {paths("forge", "/data/forge"), tar.Header{Name: "data/kv/value"}, "not below /data/forge"},
		"hard link":     {paths("forge", "/data/forge"), tar.Header{Name: "data/forge", Typeflag: tar.TypeLink, Linkname: "etc/passwd"}, "type"},
		"device":        {paths("forge", "/data/forge"), tar.Header{Name: "data/forge", Typeflag: tar.TypeBlock}, "type"},
		"link for dir":  {paths("forge", "/data/forge"), tar.Header{Name: "data/forge", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, "something else"},
		"other service": {paths("forge", "/data/kv"), tar.Header{Name: "data/kv"}, "does not list"},
		"plain":         {paths("plain", "/data/plain"), tar.Header{Name: "data/plain"}, "no such service"},
		"no tar":        {paths("forge", "/data/forge"), tar.Header{}, "tar"},
	} {
		var s, content bytes.Buffer
		w := backup.NewWriter(&s)
		must(t, w.Begin(c.part))
		if files := tar.NewWriter(&content); c.header.Name != "" {
			must(t, files.WriteHeader(&c.header))
			must(t, files.Close())
		} else {
			content.WriteString(strings.Repeat("no tar", 1000))
		}
		_, err := w.Write(content.Bytes())
		must(t, err)
		must(t, w.End())
		must(t, w.Close())
		if e := restore(s.Bytes()); e.Done != nil || !strings.Contains(e.Fault, c.want) || !strings.Contains(e.Fault, "nothing was changed") {
			t.Errorf("%s: %+v", what, e)
		}
		kept(what)
	}
	did := restore(stream)
	if did.Done == nil || strings.Join(did.Done.Services, " ") != "forge nightly kv" || len(did.Done.Warnings) > 0 {
		t.Fatalf("%+v, %+v", did, did.Done)
	}
	v.waitService("forge", "ready again", func(s guestapi.Service) bool { return s.State == guestapi.StateReady })
	if s := v.service("nightly"); s.State != guestapi.StateScheduled || s.Schedule == nil || s.Schedule.Failed {
		t.Errorf("nightly: %+v", s)
	}
	const want = "one\nfirst\na 640 nobody\n/data/.sov-restore:\n\n/data/forge:\nrepos\nstate"
	if got := look(`cat /data/forge/repos/a/file /data/kv/value; echo "$(readlink /data/forge/repos/b) $(stat -c '%a %U' /data/forge/repos/a/file)"; ls /data/forge /data/.sov-restore`); got != want {
		t.Errorf("restored: %s", got)
	}
	// After the restore, kv's program still cannot read forge's data.
	if _, second := v.stream(http.MethodGet, guestapi.PathBackup, token, nil); string(saved(t, second)["stream kv"]) != "first\n" {
		t.Error("the backup after the restore lacks kv")
	}
	if got := strings.Count(v.text(), "cat: /data/forge/state: Permission denied"); got != 2 {
		t.Errorf("kv could read forge's data %d times of 2", 2-got)
	}
	v.shutDown()
	b.wantCleanDisk(t)
}

func paths(service string, list ...string) backup.Part {
	return backup.Part{Kind: backup.KindPaths, Service: &backup.Service{Name: service, Paths: list}}
}

// TestBackupClientDisconnects verifies that a stopped service is started again, that a failed
// program fails the backup, and that a program that never ends is killed when its client
// disconnects.
func TestBackupClientDisconnects(t *testing.T) {
	f := forge()
	f.Prepare = []guestspec.Step{{Command: []string{"/bin/dd", "if=/dev/zero", "of=/data/forge/large", "bs=1M", "count=64"}}}
	failing := kv()
	failing.Backup.Command = []string{"/bin/sh", "-c", `echo part; while test -e /data/kv/wait; do sleep 0.1; done; echo "no key" >&2; exit 3`}
	v := newBox(t, f, failing).boot(t)
	v.waitReady()
	v.waitLine("out forge: up")
	// The client reads the beginning of the 64 MiB and disconnects.
	conn, err := v.dial(t.Context(), "tcp", net.JoinHostPort(guestAddress, strconv.Itoa(guestspec.EndpointPort)))
	must(t, err)
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: guest\r\nAuthorization: Bearer %s\r\n\r\n", guestapi.PathBackup, token)
	_, err = io.ReadFull(conn, make([]byte, 1<<20))
	must(t, err)
	if s := v.service("forge"); s.State != guestapi.StateStopped || s.PID != 0 || v.status().Ready {
		t.Errorf("while its data are read: %+v", s)
	}
	conn.Close()
	v.waitService("forge", "ready again", func(s guestapi.Service) bool { return s.State == guestapi.StateReady })

	var answer []byte
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // the first backup may not have ended
		var code int
		if code, answer = v.stream(http.MethodGet, guestapi.PathBackup, token, nil); code == http.StatusOK || time.Now().After(deadline) {
			break
		}
	}
	if !bytes.Contains(answer, []byte("service kv: /bin/sh: exit status 3: no key")) {
		t.Errorf("it ends with %q", answer[max(0, len(answer)-200):])
	}
	if _, err := v.run("/bin/touch", "/data/kv/wait"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(guestAddress, strconv.Itoa(guestspec.EndpointPort))+guestapi.PathBackup, nil)
	must(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := (&http.Client{Transport: &http.Transport{DialContext: v.dial}}).Do(request)
	must(t, err)
	r := backup.NewReader(response.Body)
	for kind := backup.KindPaths; kind != backup.KindStream; {
		part, content, err := r.Next()
		must(t, err)
		if kind = part.Kind; kind == backup.KindStream {
			_, err = io.ReadFull(content, make([]byte, len("part\n")))
			must(t, err)
		}
	}
	cancel()
	response.Body.Close()
	eventually(t, "the program that never ends is ended", patience, func() error {
		if out, err := v.run("/usr/bin/pgrep", "-f", "/data/kv/wait"); err == nil {
			return fmt.Errorf("it runs as %s", out)
		}
		return nil
	})
	v.shutDown()
}

// TestInterruptedSwap verifies that the swap that a restore recorded before a power cut is
// completed at the next start.
func TestInterruptedSwap(t *testing.T) {
	b := newBox(t, forge())
	v := b.boot(t)
	v.waitReady()
	v.waitLine("out forge: up")
	note, err := json.Marshal(map[string]any{"items": []map[string]any{{"path": "/data/forge", "new": "forge/data/forge", "contents": true}}})
	must(t, err)
	if out, err := v.run("/bin/sh", "-c", "mkdir -p /data/.sov-restore/forge/data/forge; echo restored >/data/.sov-restore/forge/data/forge/file; echo '"+string(note)+"' >/data/.sov-restore/swap.json"); err != nil {
		t.Fatal(out, err)
	}
	stream := bytes.NewReader(nil)
	if _, answer := v.stream(http.MethodPost, guestapi.PathRestore, token, stream); !strings.Contains(lastEvent(t, answer).Fault, "restart the machine") {
		t.Errorf("another restore: %s", answer)
	}
	v.shutDown()
	v = b.boot(t)
	v.waitReady()
	v.waitLine("out forge: up")
	if out, err := v.run("/bin/sh", "-c", "cat /data/forge/file; ls /data/forge; ls /data/.sov-restore"); err != nil || !strings.HasPrefix(out, "restored\nfile\nrepos\nstate") {
		t.Errorf("%s, %v", out, err)
	}
	v.shutDown()
}
