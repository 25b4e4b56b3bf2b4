package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

func TestInspectServices(t *testing.T) {
	files := map[string]any{
		"guest.json": guestspec.Config{Format: guestspec.Format, Hostname: "shop", Image: guestspec.Image{Name: "shop", Version: "1"},
			Firewall: guestspec.Firewall{Open: []guestspec.Opening{{Protocol: "tcp", Port: 80, On: "link", Service: "web"},
				{Protocol: "tcp", Port: 80, On: "tailnet", Service: "web"}, {Protocol: "udp", Port: 53, On: "link", Service: "web"}}}},
		"services/db.json": guestspec.Service{Name: "db", User: "postgres", Command: []string{"/bin/db"}, Rights: guestspec.Rights{Write: []string{"/data"}},
			Prepare: []guestspec.Step{{Command: []string{"/sbin/sov-init", "postgres-prepare"}, Unconfined: true}}},
		"services/web.json": guestspec.Service{Name: "web", User: "nobody", Command: []string{"/bin/web"},
			SecretEnv: map[string]string{"KEY": "session"}, Secrets: []guestspec.SecretFile{{Secret: "role-app", Path: "/run/secrets/web/role-app"}},
			Directories: []guestspec.Directory{{Path: "/data/web", Mode: "0750", User: "nobody"}},
			Rights:      guestspec.Rights{Capabilities: []string{"net_bind_service"}, Devices: []string{"/dev/net/tun"}}, Limits: guestspec.Limits{Memory: "50%", Processes: 510}},
	}
	img := picture(t, func(tr *tree.Tree) {
		for _, dir := range []string{"etc/sov", "etc/sov/services"} {
			if err := tr.Put(dir, &tree.Inode{Mode: tree.S_IFDIR | 0o755}); err != nil {
				t.Fatal(err)
			}
		}
		for name, value := range files {
			text, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.Put("etc/sov/"+name, &tree.Inode{Mode: tree.S_IFREG | 0o644, Content: tree.Bytes(text)}); err != nil {
				t.Fatal(err)
			}
		}
	})
	stdout, stderr, status := cli(t, "inspect", "services", img)
	if status != exitDone {
		t.Fatalf("status %d: %s", status, stderr)
	}
	var rows []string
	for line := range strings.Lines(stdout) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	if got, want := strings.Join(rows, "\n"), `SERVICE USER CAPABILITIES MAY WRITE DEVICES PORTS MEMORY PROCESSES COMMAND
db postgres - /data - - - - /bin/db
web nobody net_bind_service /data/web /dev/net/tun 80/tcp,53/udp 50% 510 /bin/web`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	stdout, _, _ = cli(t, "inspect", "services", "--json", img)
	for _, want := range []string{`"hidden": [`, `"/data/web"`, `"unconfined": [`, `"postgres-prepare"`, "\"secrets\": [\n      \"role-app\",\n      \"session\""} {
		if !strings.Contains(stdout, want) {
			t.Errorf("--json has no %s:\n%s", want, stdout)
		}
	}
}
