//go:build linux

package endpoint

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/guest/journal"
)

// TestSilentConnections opens far more connections than the endpoint has room for, from the guest or
// its host, and says nothing on them: who has the token is answered all the same.
func TestSilentConnections(t *testing.T) {
	const own, host = "127.0.0.1", "127.0.0.2"
	for _, from := range []string{own, host} {
		t.Run(from, func(t *testing.T) {
			probe, err := net.Listen("tcp", own+":0")
			must(t, err)
			address := netip.MustParseAddrPort(probe.Addr().String())
			probe.Close()
			s := New(Config{Machine: &fakeMachine{requests: make(chan string, 2)}, Console: journal.NewConsole(io.Discard, time.Now), Token: token})
			must(t, s.Listen(address, func(_ string, fn func()) { go fn() }))
			defer s.Close()
			dial := func(from string) (net.Conn, error) {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Minute}
				return d.Dial("tcp", address.String())
			}
			var silent []net.Conn
			for range 400 {
				c, err := dial(from)
				must(t, err)
				defer c.Close()
				silent = append(silent, c)
			}
			client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
				DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(host) },
			}}
			for range 2 { // the second on the same connection
				r, err := http.NewRequest(http.MethodPost, "http://"+address.String()+guestapi.PathShutdown, nil)
				must(t, err)
				r.Header.Set("Authorization", "Bearer "+token)
				answer, err := client.Do(r)
				if err != nil {
					t.Fatalf("with the token: %v", err)
				}
				io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if answer.StatusCode != http.StatusAccepted {
					t.Errorf("with the token: %s", answer.Status)
				}
			}
			// The oldest went for the newest, long before its time for a request was over.
			silent[0].SetReadDeadline(time.Now().Add(headerTimeout / 2))
			if _, err := silent[0].Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the oldest silent connection: %v", err)
			}
		})
	}
}
