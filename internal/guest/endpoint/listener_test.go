//go:build linux

package endpoint

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/network"
	"github.com/sovereign-sql/sov/internal/testkit/netnstest"
)

// serve starts an endpoint and closes it when the test ends.
func serve(t *testing.T, address netip.AddrPort) {
	t.Helper()
	s := New(Config{Machine: &fakeMachine{requests: make(chan string, 10_000)}, Console: journal.NewConsole(io.Discard, time.Now), Token: token})
	must(t, s.Listen(address, func(_ string, fn func()) { go fn() }))
	t.Cleanup(s.Close)
}

// TestSilentConnections opens far more connections than the endpoint accepts, and sends nothing on
// them. A caller with the token still gets a response.
func TestSilentConnections(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := netip.MustParseAddrPort(probe.Addr().String())
	probe.Close()
	serve(t, address)
	var silent []net.Conn
	for range 400 {
		c, err := net.DialTimeout("tcp", address.String(), time.Minute)
		must(t, err)
		defer c.Close()
		silent = append(silent, c)
	}
	client := &http.Client{Timeout: 3 * time.Second} // from any port
	for range 2 {                                    // the second on the same connection
		if err := ask(client, address); err != nil {
			t.Fatalf("with the token: %v", err)
		}
	}
	// The oldest were closed for newer ones, long before their timeout.
	silent[0].SetReadDeadline(time.Now().Add(headerTimeout / 2))
	if _, err := silent[0].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the oldest silent connection: %v", err)
	}
}

// TestFlood connects to the endpoint without a pause, from the guest and as any user of the host.
// Root on the host gets a response each time.
func TestFlood(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	guest, host := netnstest.New(t), netnstest.New(t)
	address := netip.MustParseAddrPort("192.168.100.2:8377")
	must(t, netnstest.In(guest, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "tap", PeerNamespace: netlink.NsFd(host)})
	}))
	for _, end := range []struct {
		ns            netns.NsHandle
		link, address string
	}{{guest, "lo", "127.0.0.1/8"}, {guest, "eth0", "192.168.100.2/24"}, {host, "tap", "192.168.100.1/24"}} {
		must(t, netnstest.In(end.ns, func() error {
			link, err := netlink.LinkByName(end.link)
			must(t, err)
			a, err := netlink.ParseAddr(end.address)
			must(t, err)
			return errors.Join(netlink.AddrReplace(link, a), netlink.LinkSetUp(link))
		}))
	}
	must(t, netnstest.In(guest, network.Firewall{Link: "eth0", Gateway: netip.MustParseAddr("192.168.100.1"), Endpoint: address.Port()}.Apply))
	must(t, netnstest.In(guest, func() error { serve(t, address); return nil }))
	flood, stop := context.WithCancel(t.Context())
	var flooders sync.WaitGroup
	var flooded atomic.Int64
	start := time.Now()
	for _, ns := range []netns.NsHandle{guest, guest, host, host} {
		flooders.Go(func() {
			must(t, netnstest.In(ns, func() error {
				for flood.Err() == nil {
					if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(flood, "tcp", address.String()); err == nil {
						defer c.Close()
						flooded.Add(1)
						io.WriteString(c, "GET /") // the request stays incomplete
					}
				}
				return nil
			}))
		})
	}
	defer flooders.Wait()
	defer stop()
	port := guestapi.FirstUnprivileged
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, to string) (conn net.Conn, err error) {
		for err = syscall.EADDRINUSE; errors.Is(err, syscall.EADDRINUSE); { // a flooder uses the port
			if port--; port < guestapi.FirstUnprivileged/2 {
				port = guestapi.FirstUnprivileged - 1
			}
			err = netnstest.In(host, func() error {
				conn, err = (&net.Dialer{LocalAddr: &net.TCPAddr{Port: port}}).DialContext(ctx, network, to)
				return err
			})
		}
		return conn, err
	}}}
	for n := 0; n < 30 || time.Since(start) < 2*time.Second; n++ {
		if err := ask(client, address); err != nil {
			t.Fatalf("request %d with the token: %v", n, err)
		}
	}
	// The firewall limits both rates.
	t.Logf("%d connections without the token in %s", flooded.Load(), time.Since(start))
	if most := 2*(200+100*time.Since(start).Seconds()) + 50; float64(flooded.Load()) > most {
		t.Errorf("the endpoint took %d connections without the token, of which it has time for %.0f", flooded.Load(), most)
	}
}

// ask requests a shutdown with the token.
func ask(client *http.Client, address netip.AddrPort) error {
	r, err := http.NewRequest(http.MethodPost, "http://"+address.String()+guestapi.PathShutdown, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	io.Copy(io.Discard, answer.Body)
	if answer.StatusCode != http.StatusAccepted {
		return errors.New(answer.Status)
	}
	return nil
}
