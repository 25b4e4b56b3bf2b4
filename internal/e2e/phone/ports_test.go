package phone

import (
	"context"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// peers returns the artifacts of two machines. Each names the other as its peer and admits the
// other's network to its database.
func peers(t *testing.T) map[string]string {
	return map[string]string{
		"sql": sovtest.Variant(t, "arm64", "first", "network: {forward: [5432], peers: [second]}\npostgres: {networks+: [192.168.101.0/24, 192.168.1.0/24]}"),
		"second": sovtest.Variant(t, "arm64", "second", "name: second\nnetwork: {peers: [sql], host: 192.168.101.1/24, guest: 192.168.101.2}\n"+
			"postgres: {networks+: [192.168.100.0/24]}"),
	}
}

// answers connects to a server and sends a request. It returns an error unless the server responds
// within the limit.
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

// TestPortsAndPeers checks that another computer on the Wi-Fi reaches a machine only through the
// ports of the phone that the recipe forwards. Guests reach each other if both recipes name the
// other.
func TestPortsAndPeers(t *testing.T) {
	t.Parallel()
	h := phonetest.New(t, androidtest.Options{}, "")
	if err := os.RemoveAll(h.File(h.VM.Dir())); err != nil { // including the data of the other network
		t.Fatal(err)
	}
	for name, dir := range peers(t) {
		h.Seed(h.Install(dir, name))
	}
	before := h.Snapshot()
	h.Do("up", "sql")
	h.InternetShell("ip route add 192.168.100.0/24 via " + androidtest.WLANIP)
	for address, open := range map[string]bool{
		androidtest.WLANIP + ":5432": true,  // forwarded
		"192.168.100.2:5432":         false, // published, for sov, peers and the tailnet only
		"192.168.100.2:8377":         false, // the guest's endpoint
		androidtest.WLANIP + ":8377": false,
	} {
		within := time.Minute
		if !open { // no response will come
			within = 3 * time.Second
		}
		if err := answers(h.DialFromInternet, address, within); (err == nil) != open {
			t.Errorf("from outside, %s: %v; open should be %v", address, err, open)
		}
	}
	// The other machine has separate secrets.
	vm, err := phonepath.Default.VM("second")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(h.File(vm.Secrets()), 0o700); err != nil {
		t.Fatal(err)
	}
	h.Do("restart", "sql") // the peer was installed after sql's network was set up
	h.Do("up", "second")
	const reach = "nc -w 60 %s 5432 </dev/null >/dev/null 2>&1 && echo yes || echo no"
	if got := h.GuestShell(fmt.Sprintf(reach, "192.168.101.2")); got != "yes" {
		t.Errorf("a peer is reached: %s\n%s", got, h.Shell("/system/bin/iptables -S"))
	}
	if got := h.GuestShell("nc -w 2 192.168.101.2 8377 </dev/null >/dev/null 2>&1 && echo yes || echo no"); got != "no" {
		t.Error("a peer's endpoint, which is its host's alone, is reached")
	}
	h.Do("down", "second")
	if got := h.Ask("select 1"); len(got) != 1 {
		t.Errorf("with the other down: %q", got)
	}
	h.Do("down", "sql")
	phonetest.SameNetwork(t, "both down", before, h.Snapshot())
}
