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

// peers are two machines that name each other as peers, and admit each other's network to their
// databases.
func peers(t *testing.T) map[string]string {
	return map[string]string{
		"sql": sovtest.Variant(t, "arm64", "first", "network: {forward: [5432], peers: [second]}\npostgres: {networks+: [192.168.101.0/24, 192.168.1.0/24]}"),
		"second": sovtest.Variant(t, "arm64", "second", "name: second\nnetwork: {peers: [sql], host: 192.168.101.1/24, guest: 192.168.101.2}\n"+
			"postgres: {networks+: [192.168.100.0/24]}"),
	}
}

// answers tells whether a server accepts a connection and speaks first, or when it is spoken to,
// within a time.
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

// From outside (another computer on the Wi-Fi), a machine is reached at the phone's own address
// where the recipe forwards a port, and nowhere else; guests reach each other where both recipes
// say so.
func TestPortsAndPeers(t *testing.T) {
	t.Parallel()
	h := phonetest.New(t, androidtest.Options{}, "")
	if err := os.RemoveAll(h.File(h.VM.Dir())); err != nil { // the data of the other network as well
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
		"192.168.100.2:5432":         false, // published, which is for sov, peers and the tailnet
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
	vm, err := phonepath.Default.VM("second")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(h.File(vm.Secrets()), 0o700); err != nil {
		t.Fatal(err)
	}
	h.Do("restart", "sql") // its network is made with its peer's in mind only now that this is installed
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
