package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/androidtest"
	"github.com/sovereign-sql/sov/internal/layout"
)

// variant builds the sql recipe with some of its text replaced.
func variant(arch, name string, replace ...string) (string, outcome) {
	text, err := os.ReadFile("../../assets/sql.yaml")
	if err != nil {
		return "", outcome{status: 1, stderr: err.Error()}
	}
	changed := string(text)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(changed, replace[i]) {
			return "", outcome{status: 1, stderr: "sql.yaml has no " + replace[i]}
		}
		changed = strings.ReplaceAll(changed, replace[i], replace[i+1])
	}
	recipe := filepath.Join(shared, name+".yaml")
	if err := os.WriteFile(recipe, []byte(changed), 0o644); err != nil {
		return "", outcome{status: 1, stderr: err.Error()}
	}
	return build(recipe, arch, filepath.Join(shared, name))
}

// Two machines that name each other as peers, and admit each other's network to their databases.
var (
	first = sync.OnceValues(func() (string, outcome) {
		return variant("arm64", "first", "publish: [5432]", "publish: [5432]\n  forward: [5432]\n  peers: [second]",
			"networks: [tap, tailnet]", "networks: [tap, tailnet, 192.168.101.0/24, 192.168.1.0/24]")
	})
	second = sync.OnceValues(func() (string, outcome) {
		dir, result := variant("arm64", "second", "name: sql\n", "name: second\n", "publish: [5432]", "publish: [5432]\n  peers: [sql]", "vm_sql", "vm_second",
			"192.168.100.", "192.168.101.", "networks: [tap, tailnet]", "networks: [tap, tailnet, 192.168.100.0/24]")
		return strings.Replace(dir, "/sql/", "/second/", 1), result
	})
)

// answers tells whether a server accepts a connection and speaks first, or when it is spoken to, within a time.
func answers(dial func(context.Context, string, string) (net.Conn, error), address string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(within))
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // PostgreSQL's SSLRequest
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// From outside (another computer on the Wi-Fi), a machine is reached at what it publishes and at nothing else, and at the phone's own address where
// the recipe forwards it; guests reach each other where both recipes say so.
func TestPortsAndPeers(t *testing.T) {
	t.Parallel()
	h := newHandset(t, androidtest.Options{}, "")
	if err := os.RemoveAll(h.File(h.vm.Dir())); err != nil {
		t.Fatal(err)
	}
	for name, made := range map[string]func() (string, outcome){"sql": first, "second": second} {
		dir, result := made()
		if result.status != 0 {
			t.Fatal(result)
		}
		h.Install(dir, name)
	}
	before := h.Snapshot()
	h.do("up", "sql")
	h.InternetShell("ip route add 192.168.100.0/24 via " + androidtest.WLANIP)
	for address, open := range map[string]bool{
		androidtest.WLANIP + ":5432": true,  // forwarded
		"192.168.100.2:5432":         true,  // published
		"192.168.100.2:8377":         false, // the guest's endpoint
		androidtest.WLANIP + ":8377": false,
	} {
		within := time.Minute
		if !open { // nothing will come
			within = 3 * time.Second
		}
		if err := answers(h.DialFromInternet, address, within); (err == nil) != open {
			t.Errorf("from outside, %s: %v; open should be %v", address, err, open)
		}
	}
	// The other machine's secret is its own.
	vm, err := layout.Default.VM("second")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(h.File(vm.Secrets()), 0o700); err != nil {
		t.Fatal(err)
	}
	h.do("restart", "sql") // its network is made with its peer's in mind only now that this is installed
	h.do("up", "second")
	const reach = "nc -w 60 %s 5432 </dev/null >/dev/null 2>&1 && echo yes || echo no"
	if got := h.shell(fmt.Sprintf(reach, "192.168.101.2")); got != "yes" {
		t.Errorf("a peer is reached: %s\n%s", got, h.Shell("/system/bin/iptables -S"))
	}
	if got := h.shell("nc -w 2 192.168.101.2 8377 </dev/null >/dev/null 2>&1 && echo yes || echo no"); got != "no" {
		t.Error("a peer's endpoint, which is its host's alone, is reached")
	}
	h.do("down", "second")
	if got := h.ask("select 1"); len(got) != 1 {
		t.Errorf("with the other down: %q", got)
	}
	h.do("down", "sql")
	same(t, "both down", before, h.Snapshot())
}
