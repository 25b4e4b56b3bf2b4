package netd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/testkit/childtest"
)

// Addresses of the simulated network.
const (
	ServerIP  = "203.0.113.10"    // of the internet's server
	ServerIP6 = "2001:db8:10::10" // the same
	WLANIP    = "192.168.1.50"    // of the phone on wlan0
	WLANIP6   = "2001:db8:1::50"  // the same
	MobileIP  = "10.20.30.40"     // of the phone on rmnet0
	MobileIP6 = "2001:db8:2::40"  // the same
	VPNIP     = "10.8.0.2"        // of the phone on tun0
	VPNIP6    = "fd00:8::2"       // the same
	ClatIP    = "192.0.0.4"       // of the phone on v4-rmnet0 (RFC 7335), also as seen by the internet
	Gateway   = "192.168.1.1"     // of wlan0
	Gateway2  = "192.168.1.254"   // an alternative gateway of wlan0
	gateway6  = "2001:db8:1::1"   // of wlan0
	LANHost   = "192.168.1.77"    // another computer on the Wi-Fi, played by the internet's server
	imsIP6    = "2001:db8:3::40"  // of the phone on rmnet1
	imsIP     = "10.20.31.40"     // the same
	wlanMTU   = 1500
	mobileMTU = 1500
	clatMTU   = mobileMTU - 28 // for the longer header and a fragment header (clatd)
)

// A wire connects an interface of the phone with the internet.
type wire struct {
	far      string // the interface at the other end
	index    int    // of the near interface; 0: the kernel's choice
	net4     string // of the near interface, with prefix
	net6     string
	gateway4 string // empty: point to point
	gateway6 string
	farLines []string // commands of ip for the addresses and routes of the other end
}

func pointToPoint(far, net4, net6 string) []string {
	address4, _, _ := strings.Cut(net4, "/")
	address6, _, _ := strings.Cut(net6, "/")
	return []string{"addr add " + ServerIP6 + "/128 dev " + far + " nodad", "link set " + far + " up", "route add " + address4 + " dev " + far, "route add " + address6 + " dev " + far}
}

var wires = map[string]wire{
	"wlan0": {"ap0", 10, WLANIP + "/24", WLANIP6 + "/64", Gateway, gateway6,
		[]string{"addr add " + Gateway + "/24 dev ap0", "addr add " + Gateway2 + "/24 dev ap0", "addr add " + LANHost + "/24 dev ap0", "addr add " + gateway6 + "/64 dev ap0 nodad", "link set ap0 up"}},
	"rmnet0": {"cell0", 11, MobileIP + "/32", MobileIP6 + "/64", "", "", pointToPoint("cell0", MobileIP, MobileIP6)},
	"rmnet1": {"ims0", 14, imsIP + "/32", imsIP6 + "/64", "", "", pointToPoint("ims0", imsIP, imsIP6)},
	"tun0":   {"vpn0", 12, VPNIP + "/32", VPNIP6 + "/128", "", "", pointToPoint("vpn0", VPNIP, VPNIP6)},
}

// downstream lists the interfaces to clients.
var downstream = map[string]struct {
	index                   int
	address, client, subnet string
}{
	"wlan1":  {13, "192.168.43.1/24", "192.168.43.10", "192.168.43.0/24"},
	"rndis0": {15, "192.168.42.129/24", "192.168.42.10", "192.168.42.0/24"},
}

// ClientIP returns the address of the client of a tether's interface.
func ClientIP(down string) string { return downstream[down].client }

// quietIPv6 disables automatic IPv6 addresses and duplicate address detection.
var quietIPv6 = func() (settings []string) {
	for _, which := range []string{"all", "default"} {
		for _, name := range []string{"accept_dad", "dad_transmits", "autoconf", "router_solicitations"} {
			settings = append(settings, "ipv6/conf/"+which+"/"+name+"=0")
		}
	}
	return settings
}()

// plug connects the phone with the internet. The server also has the addresses of the recipes'
// default name servers, where it refuses queries.
func (n *Netd) plug() {
	n.t.Helper()
	n.set(n.o.Internet, quietIPv6...)
	// The kernel limits ICMP errors to one per second and client (icmp(7)), for all addresses
	// together. Servers of the real internet do not share a limit.
	n.set(n.o.Internet, "ipv4/icmp_ratelimit=0", "ipv4/ip_forward=1")
	lines := []string{"link set lo up", "addr add " + ServerIP6 + "/128 dev lo"}
	for _, address := range []string{ServerIP, "1.1.1.1", "9.9.9.9"} {
		lines = append(lines, "addr add "+address+"/32 dev lo")
	}
	n.ip(n.o.Internet, "", lines...)
	n.set(n.o.Phone, quietIPv6...)
	// The tunnel has no carrier, because no process opens it.
	n.ip(n.o.Phone, "", "link set lo up", "tuntap add dummy0 mode tun", "link set dummy0 up")
	for _, name := range []string{"wlan0", "rmnet0", "rmnet1"} {
		n.linkUp(name, false)
	}
	n.readIndexes()
}

func (n *Netd) readIndexes() {
	n.t.Helper()
	var interfaces []net.Interface
	err := InNetwork(n.o.Phone.PID, func() (err error) {
		interfaces, err = net.Interfaces()
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, i := range interfaces {
		n.index[i.Name] = i.Index
	}
}

// linkUp creates an interface if it does not exist, sets its addresses and brings it up. With only6
// it has no IPv4 address.
func (n *Netd) linkUp(name string, only6 bool) {
	n.t.Helper()
	if d, ok := downstream[name]; ok {
		n.offer(name, d.index, d.address, d.client)
		return
	}
	w := wires[name]
	if _, exists := n.index[name]; !exists {
		n.join(name, w.index, w.far, n.o.Internet.PID)
		n.ip(n.o.Internet, "", w.farLines...)
		if w.gateway4 == "" { // without neighbours: the far end accepts every address
			n.set(n.o.Internet, "ipv4/conf/"+w.far+"/proxy_arp=1")
		}
	}
	lines := []string{"link set " + name + " up", "addr flush dev " + name}
	if !only6 {
		lines = append(lines, "addr add "+w.net4+" dev "+name)
	}
	n.ip(n.o.Phone, "-4", lines...)
	n.ip(n.o.Phone, "-6", "addr replace "+w.net6+" dev "+name+" nodad noprefixroute")
	n.readIndexes()
}

// join creates a wire directly in the namespaces of its ends: the computer's network does not see
// it.
func (n *Netd) join(near string, index int, far string, pid int) {
	n.t.Helper()
	// Run on the computer: the phone's processes do not see processes outside the phone.
	out, err := exec.Command("ip", "link", "add", near, "index", strconv.Itoa(index), "netns", strconv.Itoa(n.o.Phone.PID),
		"type", "veth", "peer", "name", far, "netns", strconv.Itoa(pid)).CombinedOutput()
	if err != nil {
		n.t.Fatalf("make %s: %v: %s", near, err, out)
	}
}

// offer connects a client to an interface of the phone. A client that was connected before connects
// again, and forgets the ARP requests that were not answered meanwhile. When such a request fails,
// the connections that wait for it fail, too.
func (n *Netd) offer(name string, index int, address, client string) {
	n.t.Helper()
	host, _, _ := strings.Cut(address, "/")
	if _, exists := n.clients[name]; !exists {
		n.clients[name] = n.o.NewPlace()
		n.join(name, index, "eth0", n.clients[name].PID)
		n.set(n.clients[name], quietIPv6...)
	}
	n.ip(n.clients[name], "", "link set lo up", "link set eth0 down", "addr replace "+client+"/24 dev eth0", "link set eth0 up", "route replace default via "+host)
	n.ip(n.o.Phone, "-4", "link set "+name+" up", "addr flush dev "+name, "addr add "+address+" dev "+name)
	n.readIndexes()
}

// Client returns the place of the client of a tether's interface, which exists after the first
// tether.
func (n *Netd) Client(down string) Place { return n.clients[down] }

// addRoutes adds rules, and the routes of an interface's table and of its table of local routes. It
// keeps routes that netd's start did not remove.
func (n *Netd) addRoutes(name string, only6 bool, rules ...string) {
	n.t.Helper()
	table, local := n.table(name), localTableOffset+n.index[name]
	v4, v6 := ruleLines("add", rules), ruleLines("add", rules)
	add := func(lines *[]string, format string, args ...any) {
		*lines = append(*lines, fmt.Sprintf("route replace "+format+" proto static", args...))
	}
	network := func(lines *[]string, subnet, gateway string) {
		if gateway == "" {
			add(lines, "default dev %s table %d", name, table)
			return
		}
		add(lines, "%s dev %s table %d", subnet, name, table)
		add(lines, "%s dev %s table %d", subnet, name, local)
		add(lines, "default via %s dev %s table %d", gateway, name, table)
	}
	if strings.HasPrefix(name, clatPrefix) {
		add(&v4, "default dev %s table %d mtu %d", name, table, clatMTU)
	} else {
		if !only6 {
			network(&v4, "192.168.1.0/24", wires[name].gateway4)
		}
		add(&v4, "224.0.0.0/24 dev %s table %d", name, local)
		network(&v6, "2001:db8:1::/64", wires[name].gateway6)
	}
	n.ip(n.o.Phone, "-4", v4...)
	n.ip(n.o.Phone, "-6", v6...)
}

// ndc is the script of the program ndc, limited to forwarding (server/NdcDispatcher.cpp,
// server/TetherController.cpp). Requesters of forwarding are a set of names. Each call enables
// forwarding if the set is not empty, and otherwise disables it.
const ndc = `#!/bin/sh
dir=%s
fail() { echo "$1"; exit 0; }
case "$1 $2 $#" in
"ipfwd enable 3") : >"$dir/$3" ;;
"ipfwd disable 3") rm -f "$dir/$3" ;;
"ipfwd status 2") for name in "$dir"/*; do [ -e "$name" ] && echo "211 0 ${name##*/}"; done; fail "200 0 ipfwd operation succeeded" ;;
"ipfwd "*) fail "501 0 Unknown ipfwd cmd" ;;
*) fail "500 0 Command not recognized" ;;
esac
on=0
for name in "$dir"/*; do [ -e "$name" ] && on=1; done
echo $on >/proc/sys/net/ipv4/ip_forward
echo $on >/proc/sys/net/ipv6/conf/all/forwarding
echo "200 0 ipfwd operation succeeded"
`

// WriteNDC writes the program ndc to a file. Netd works the same without it.
func WriteNDC(path, state string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return childtest.WriteScript(path, fmt.Sprintf(ndc, state))
}

// requester sends netd the framework's request to enable or disable forwarding for a name.
func (n *Netd) requester(verb, name string) {
	n.t.Helper()
	n.o.Phone.Shell("set -- ipfwd " + verb + " " + name + "\n" + strings.TrimPrefix(fmt.Sprintf(ndc, n.o.State), "#!/bin/sh\n"))
}
