package lightguest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
)

// address is the abstract socket, in the phone's network namespace, at which the phone's first
// process starts guests.
const address = "@androidtest-lightguest"

// Kinds of messages between the stand-in for crosvm and the guest's process: the first byte.
const (
	kindStart = 'S' // a beginning, as JSON
	kindReady = 'R' // the guest's network is ready; content: an error
	kindFrame = 'F' // an Ethernet frame with its virtio_net_hdr
	kindSaid  = 'A' // a line received at a port of the guest
	kindEnd   = 'E' // an End
)

// A beginning is the configuration of a guest's process.
type beginning struct {
	Script Script
	MAC    string
	Config []byte // the config disk
}

// A wire carries messages.
type wire struct {
	conn    *net.UnixConn
	writing sync.Mutex
}

func (w *wire) send(kind byte, content []byte) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	_, err := w.conn.Write(append([]byte{kind}, content...))
	return err
}

// receive reads the next message into buffer, which the content refers to.
func (w *wire) receive(buffer []byte) (kind byte, content []byte, err error) {
	n, err := w.conn.Read(buffer)
	if err == nil && n == 0 {
		err = net.ErrClosed
	}
	if err != nil {
		return 0, nil, err
	}
	return buffer[0], buffer[1:n], nil
}

// A Guest is the stand-in's end of a running guest.
type Guest struct {
	wire *wire
	once sync.Once
	done chan struct{}
	end  End

	paused atomic.Bool
}

const maxConfig = 128 << 10 // bytes of a config disk

// shortHeaders sets the size of the frame header of a TAP interface to a new interface's, struct
// virtio_net_hdr (include/uapi/linux/virtio_net.h). QEMU leaves a longer header.
func shortHeaders(tap *os.File) error {
	const size = 10
	raw, err := tap.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.IoctlSetPointerInt(int(fd), unix.TUNSETVNETHDRSZ, size) }); err != nil {
		return err
	}
	return failed
}

// Start starts a guest on an open TAP interface. It uses the first disk that is a config disk.
func Start(s Script, tap *os.File, mac string, disks []*os.File) (*Guest, error) {
	g := &Guest{done: make(chan struct{})}
	if s.End != "" {
		g.ends(s.End)
		return g, nil
	}
	b := beginning{Script: s, MAC: mac}
	for _, f := range disks {
		info, err := f.Stat()
		if err != nil || info.Size() > maxConfig {
			continue
		}
		if _, err := configdisk.Decode(f, info.Size()); err == nil {
			b.Config = make([]byte, info.Size())
			if _, err := f.ReadAt(b.Config, 0); err != nil {
				return nil, err
			}
			break
		}
	}
	if b.Config == nil {
		return nil, errors.New("no disk is a config disk")
	}
	if tap == nil {
		return nil, errors.New("the light guest needs a network")
	}
	if err := shortHeaders(tap); err != nil {
		return nil, err
	}
	text, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: address, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("start a light guest: %w", err)
	}
	g.wire = &wire{conn: conn}
	buffer := make([]byte, maxFrame)
	if err := g.wire.send(kindStart, text); err != nil {
		return nil, err
	}
	kind, content, err := g.wire.receive(buffer)
	if err != nil {
		return nil, fmt.Errorf("start a light guest: %w", err)
	}
	if kind != kindReady || len(content) > 0 {
		return nil, fmt.Errorf("start a light guest: %s", content)
	}
	go g.fromGuest(tap, buffer)
	go g.toGuest(tap)
	return g, nil
}

func (g *Guest) fromGuest(tap *os.File, buffer []byte) {
	for {
		kind, content, err := g.wire.receive(buffer)
		switch {
		case err != nil:
			g.ends(Crash) // the guest's process was killed
			return
		case kind == kindFrame && !g.paused.Load():
			tap.Write(content) // an interface that is down drops the frame
		case kind == kindEnd:
			g.ends(End(content))
		}
	}
}

func (g *Guest) toGuest(tap *os.File) {
	frame := make([]byte, maxFrame)
	for {
		n, err := tap.Read(frame)
		if err != nil {
			return
		}
		if !g.paused.Load() {
			g.wire.send(kindFrame, frame[:n])
		}
	}
}

// ends records how the guest ended. Only the first call counts.
func (g *Guest) ends(e End) {
	g.once.Do(func() {
		g.end = e
		close(g.done)
	})
}

// Wait waits for the guest's end and returns it.
func (g *Guest) Wait() End {
	<-g.done
	return g.end
}

// Pause disconnects the guest from the network, as if its processors were stopped, or reconnects
// it.
func (g *Guest) Pause(paused bool) { g.paused.Store(paused) }

// Cut ends the guest immediately, without a notification.
func (g *Guest) Cut() { g.ends(Cut) }

// Said sends the guest a line that was received at one of its ports.
func (g *Guest) Said(line string) {
	if g.wire != nil {
		g.wire.send(kindSaid, []byte(line))
	}
}
