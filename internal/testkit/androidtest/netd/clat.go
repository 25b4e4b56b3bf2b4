package netd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	platPort = 4646
	// clatMark is the mark of clatd's socket: an explicit network, protected from VPNs, and with
	// the system's permission.
	clatMark = explicit | protected | system
)

// startClat creates the interface v4-NAME. Its packets travel inside UDP over IPv6 through NAME to
// the tunnel's other end in the internet's namespace.
func (n *Netd) startClat(name string, netID int) {
	n.t.Helper()
	near := clatPrefix + name
	n.ip(n.o.Phone, "", "tuntap add "+near+" mode tun", "addr add "+ClatIP+"/32 dev "+near, fmt.Sprintf("link set %s mtu %d up", near, clatMTU))
	n.ip(n.o.Internet, "", "tuntap add plat0 mode tun", "link set plat0 up", "route add "+ClatIP+" dev plat0")
	n.readIndexes()
	var ends [2]*os.File
	var sockets [2]*net.UDPConn
	open := func(i int, pid int, device string, dial func() (*net.UDPConn, error)) {
		err := InNetwork(pid, func() (err error) {
			if ends[i], err = openTUN(device); err != nil {
				return err
			}
			sockets[i], err = dial()
			return err
		})
		if err != nil {
			n.t.Fatalf("start clat: %v", err)
		}
	}
	server := &net.UDPAddr{IP: net.ParseIP(ServerIP6), Port: platPort}
	open(0, n.o.Phone.PID, near, func() (*net.UDPConn, error) {
		conn, err := Dialer{Mark: clatMark | netID}.Dial("udp6", server.String())
		if err != nil {
			return nil, err
		}
		return conn.(*net.UDPConn), nil
	})
	open(1, n.o.Internet.PID, "plat0", func() (*net.UDPConn, error) { return net.ListenUDP("udp6", server) })
	peer := sockets[0].LocalAddr().(*net.UDPAddr)
	var passing sync.WaitGroup
	pass := func(read func([]byte) (int, error), write func([]byte) (int, error)) {
		passing.Go(func() {
			packet := make([]byte, 64<<10)
			for {
				count, err := read(packet)
				if err != nil {
					return
				}
				write(packet[:count]) // an interface that is down loses the packet
			}
		})
	}
	toPeer := func(b []byte) (int, error) { return sockets[1].WriteTo(b, peer) }
	pass(ends[0].Read, sockets[0].Write)
	pass(ends[1].Read, toPeer)
	pass(patient(sockets[0].Read), ends[0].Write)
	pass(patient(sockets[1].Read), ends[1].Write)
	closeAll := sync.OnceFunc(func() {
		for i := range ends {
			ends[i].Close()
			sockets[i].Close()
		}
		passing.Wait()
	})
	n.t.Cleanup(closeAll)
	n.stopClat = func() {
		closeAll()
		n.ip(n.o.Phone, "", "link del "+near)
		n.ip(n.o.Internet, "", "link del plat0")
		n.stopClat = nil
	}
}

// patient returns a read function that retries after errors, such as those about unreachable peers,
// until the socket is closed.
func patient(read func([]byte) (int, error)) func([]byte) (int, error) {
	return func(b []byte) (int, error) {
		for {
			count, err := read(b)
			if err == nil || errors.Is(err, net.ErrClosed) {
				return count, err
			}
		}
	}
}

func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// InNetwork runs do in the network of a process or thread. Sockets that do opens remain in that
// network.
func InNetwork(pid int, do func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := EnterNetwork(pid)
		if err == nil {
			err = do()
		}
		result <- err
	}()
	return <-result
}

// EnterNetwork moves the calling thread into the network of a process or thread.
func EnterNetwork(pid int) error {
	space, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return err
	}
	defer space.Close()
	return unix.Setns(int(space.Fd()), unix.CLONE_NEWNET)
}
