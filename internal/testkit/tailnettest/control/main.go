// Command control runs a tailnet for tests: Tailscale's test control server, a DERP relay, a STUN
// server and a certificate authority, on one address.
//
//	control ADDRESS[:PORT] AUTH-KEY [HOST]
//
// It prints the URL of the control server on a line when the server listens, and runs until its
// standard input ends. HOST is the address that nodes use, if it is not ADDRESS. Nodes can join
// only with the auth key. Tests inspect and change the tailnet with these requests:
//
//	GET /test/nodes     a JSON list of [Node]
//	GET /acme/root      the certificate, in PEM, of the public authority at /acme/directory
//	POST /test/open     stop requiring an auth key; until then returning nodes need it too
//	POST /test/expire   expire the keys of all nodes
//	POST /test/lapse    expire the keys of all nodes except "other", and require a person's approval
//	POST /test/renew    undo /test/lapse
package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/stunserver"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
)

// A Node is a machine of the tailnet.
type Node struct {
	Name      string         `json:"name"`
	Key       string         `json:"key"`
	Machine   string         `json:"machine"`
	Addresses []netip.Prefix `json:"addresses"`
	Hostname  string         `json:"hostname"` // as reported by the node
	Tags      []string       `json:"tags"`     // requested by the node
}

func main() {
	log.SetPrefix("control: ")
	if len(os.Args) != 3 && len(os.Args) != 4 {
		log.Fatal("usage: control ADDRESS[:PORT] AUTH-KEY [HOST]")
	}
	if err := run(os.Args[1], os.Args[2], strings.Join(os.Args[3:], "")); err != nil {
		log.Fatal(err)
	}
}

// domain is the tailnet's DNS domain. Nodes that use its DNS resolve other nodes by their full
// names and by the first labels.
const domain = "tail.test"

func run(address, authKey, reachedAt string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, "0" // a free port
	}
	reachedAt = cmp.Or(reachedAt, host)
	relays, err := relay(host, reachedAt)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	control := &testcontrol.Server{
		Logf:            log.Printf,
		DERPMap:         relays,
		RequireAuthKey:  authKey,
		MagicDNSDomain:  domain,
		DNSConfig:       &tailcfg.DNSConfig{Proxied: true, Domains: []string{domain}},
		ExplicitBaseURL: "http://" + net.JoinHostPort(reachedAt, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)),
		AllOnline:       true,
	}
	var open, person atomic.Bool
	control.MaybeRateLimitRegister = func() (reject bool, retryAfter, msg string) {
		if open.Load() { // the server reads the key after this, in the same goroutine
			control.RequireAuthKey = ""
		}
		control.RequireAuth = person.Load()
		return false, "", ""
	}
	certificates, err := newIssuer(control.ExplicitBaseURL)
	if err != nil {
		return err
	}
	control.OnSetDNS = certificates.setDNS
	mux := http.NewServeMux()
	mux.Handle("/", control)
	mux.Handle("/acme/", certificates)
	mux.HandleFunc("GET /test/nodes", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(nodes(control))
	})
	mux.HandleFunc("POST /test/open", func(http.ResponseWriter, *http.Request) { open.Store(true) })
	mux.HandleFunc("POST /test/expire", func(http.ResponseWriter, *http.Request) { control.SetExpireAllNodes(true) })
	mux.HandleFunc("POST /test/lapse", func(http.ResponseWriter, *http.Request) {
		person.Store(true)
		setExpiry(control, time.Now().Add(-time.Hour))
		control.SetExpireAllNodes(false)
	})
	mux.HandleFunc("POST /test/renew", func(http.ResponseWriter, *http.Request) {
		person.Store(false)
		setExpiry(control, time.Time{})
	})
	go func() {
		// Exit when the tests end, however they end.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println(control.ExplicitBaseURL)
	if err := http.Serve(l, mux); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// setExpiry sets the expiry of the keys of all nodes except "other"; zero is never.
func setExpiry(control *testcontrol.Server, then time.Time) {
	for _, n := range control.AllNodes() {
		if n.Hostinfo.Hostname() != "other" {
			n.KeyExpiry = then
			control.UpdateNode(n)
		}
	}
}

func nodes(control *testcontrol.Server) []Node {
	list := []Node{}
	for _, n := range control.AllNodes() {
		list = append(list, Node{
			Name: n.Name, Key: n.Key.String(), Machine: n.Machine.String(), Addresses: n.Addresses,
			Hostname: n.Hostinfo.Hostname(), Tags: n.Hostinfo.RequestTags().AsSlice(),
		})
	}
	return list
}

// relay starts a DERP and a STUN server and returns a map of them for nodes.
func relay(address, reachedAt string) (*tailcfg.DERPMap, error) {
	stun := stunserver.New(context.Background())
	if err := stun.Listen(net.JoinHostPort(address, "0")); err != nil {
		return nil, err
	}
	go stun.Serve()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return nil, err
	}
	derp := derpserver.New(key.NewNode(), log.Printf)
	server := httptest.NewUnstartedServer(derpserver.Handler(derp))
	server.Listener.Close()
	server.Listener = l
	// DERP upgrades connections to another protocol, which HTTP/2 does not support.
	server.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	server.StartTLS()
	node := &tailcfg.DERPNode{
		Name: "test", RegionID: 1, HostName: reachedAt, IPv4: reachedAt, IPv6: "none",
		STUNPort: stun.LocalAddr().(*net.UDPAddr).Port, DERPPort: l.Addr().(*net.TCPAddr).Port,
		InsecureForTests: true, STUNTestIP: reachedAt,
	}
	return &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{
		1: {RegionID: 1, RegionCode: "test", Nodes: []*tailcfg.DERPNode{node}},
	}}, nil
}
