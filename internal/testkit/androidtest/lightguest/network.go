package lightguest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// Ports of the guest besides its endpoint's.
const (
	PostgresPort = 5432
	// RelayPort takes a line ADDRESS:PORT, where ADDRESS is an IPv4 address or a peer's name, and
	// relays the connection there. Tests use it to connect from the guest.
	RelayPort = 7
	// LifePort takes a line with an End, and ends the guest in this way.
	LifePort = 8
)

const (
	maxFrame = 64<<10 + 64
	patience = 10 * time.Second
)

// join creates the guest's network namespace, opens its ports there, and returns its network card.
func (g *resident) join(mac string) (card *os.File, err error) {
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- fmt.Errorf("a network namespace: %w", err)
			return
		}
		var err error
		if g.space, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			ready <- err
			return
		}
		if card, err = openTAP("eth0"); err == nil {
			err = g.inside(mac)
		}
		ready <- err
	}()
	err = <-ready
	return card, err
}

// inside configures the network and opens the ports. It runs on the thread in the guest's
// namespace: sockets stay in the namespace in which they were opened.
func (g *resident) inside(mac string) error {
	if err := g.configure(mac); err != nil {
		return err
	}
	ports := map[int]func(net.Listener){
		guestspec.EndpointPort: func(l net.Listener) { http.Serve(l, g.endpoint()) },
		PostgresPort:           func(l net.Listener) { accept(l, answerPostgres) },
		RelayPort:              func(l net.Listener) { accept(l, g.relay) },
		LifePort:               func(l net.Listener) { accept(l, g.obey) },
	}
	if g.script.IsDeaf("endpoint") {
		delete(ports, guestspec.EndpointPort)
	}
	for port, serve := range ports {
		l, err := g.listen(port)
		if err != nil {
			return err
		}
		go serve(l)
	}
	return nil
}

func (g *resident) listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(g.config.Network.Address.Addr().String(), strconv.Itoa(port)))
}

// openTAP opens a TAP interface with crosvm's flags. It creates the interface if it does not exist.
func openTAP(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// configure gives the interface the addresses from the config disk.
func (g *resident) configure(mac string) error {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if address, err := net.ParseMAC(mac); err == nil {
		if err := netlink.LinkSetHardwareAddr(link, address); err != nil {
			return err
		}
	}
	n := g.config.Network
	ones := n.Address.Bits()
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: n.Address.Addr().AsSlice(), Mask: net.CIDRMask(ones, 32)}}); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: n.Gateway.AsSlice()})
}

func (g *resident) endpoint() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+guestapi.PathStatus, func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(g.tell()) })
	mux.HandleFunc("POST "+guestapi.PathShutdown, g.shutDown)
	kept := &data{of: g.script.Data}
	mux.HandleFunc("GET "+guestapi.PathBackup, kept.save)
	mux.HandleFunc("POST "+guestapi.PathRestore, kept.restore)
	mux.HandleFunc("POST "+guestapi.PathHosts, func(w http.ResponseWriter, r *http.Request) {
		hosts, err := guestapi.ReadHosts(r.URL.Query())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		g.hosts.Store(&hosts)
		w.WriteHeader(http.StatusNoContent)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+g.config.Token {
			http.Error(w, "the token of this boot is needed", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// shutDown accepts the request. It ends the guest after the client has closed the connection, which
// shows that the client received the answer.
func (g *resident) shutDown(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	io.Copy(io.Discard, conn)
	conn.Close()
	g.asked("guest")
}

func (g *resident) tell() guestapi.Status {
	up := time.Since(g.started)
	service := guestapi.Service{Name: guestspec.ServicePostgres, State: guestapi.StateStarting, Since: g.started}
	if g.script.Ready >= 0 && up >= g.script.Ready {
		service.State = guestapi.StateReady
	}
	return guestapi.Status{
		Image: "light", Hostname: g.config.Hostname, Time: time.Now(), Uptime: up.Seconds(), Ready: service.State == guestapi.StateReady,
		Services: []guestapi.Service{service}, Tailnet: g.script.Tailnet,
		Network: &guestapi.Network{Interface: "eth0", Up: true, Address: g.config.Network.Address.String(), Gateway: g.config.Network.Gateway.String()},
	}
}

func accept(l net.Listener, handle func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			handle(conn)
		}()
	}
}

// answerPostgres answers an SSLRequest with N: the server does not support TLS.
func answerPostgres(conn net.Conn) {
	if _, err := io.ReadFull(conn, make([]byte, 8)); err == nil {
		conn.Write([]byte("N"))
	}
}

func (g *resident) obey(conn net.Conn) {
	if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
		g.end(End(strings.TrimSpace(line)))
	}
}

func (g *resident) relay(conn net.Conn) {
	r := bufio.NewReaderSize(conn, 128)
	line, err := r.ReadSlice('\n')
	if err != nil {
		return
	}
	out, err := g.dial(g.resolve(strings.TrimSpace(string(line))))
	if err != nil {
		return
	}
	defer out.Close()
	out.SetDeadline(time.Now().Add(patience))
	go io.Copy(out, r)
	io.Copy(conn, out)
}

// resolve replaces a host's name in an address with the IP address that the host gave the guest.
func (g *resident) resolve(address string) string {
	hosts := g.config.Network.Hosts
	if told := g.hosts.Load(); told != nil {
		hosts = *told
	}
	for _, h := range hosts {
		if port, ok := strings.CutPrefix(address, h.Name+":"); ok {
			return net.JoinHostPort(h.Address.String(), port)
		}
	}
	return address
}

// dial connects from the guest's namespace on a separate thread, so that a slow connection does not
// block others.
func (g *resident) dial(address string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err = unix.Setns(int(g.space.Fd()), unix.CLONE_NEWNET); err == nil {
			conn, err = net.DialTimeout("tcp4", address, patience)
		}
	}()
	<-done
	return conn, err
}
