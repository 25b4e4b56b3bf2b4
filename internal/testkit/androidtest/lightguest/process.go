package lightguest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// processName is the argument 0 under which the program is re-executed as a guest.
const processName = "androidtest-guest"

func init() {
	if os.Args[0] != processName {
		return
	}
	if err := live(); err != nil {
		fmt.Fprintln(os.Stderr, "light guest:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Serve starts a guest's process for each connection of a stand-in, as long as this process runs.
func Serve() error {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: address, Net: "unixpacket"})
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			f, err := conn.File()
			conn.Close()
			if err != nil {
				continue
			}
			command := &exec.Cmd{Path: "/proc/self/exe", Args: []string{processName}, ExtraFiles: []*os.File{f}, Stderr: os.Stderr}
			if err := command.Start(); err != nil {
				fmt.Fprintln(os.Stderr, "start a light guest:", err)
			}
			f.Close()
		}
	}()
	return nil
}

// A resident is the process of a guest.
type resident struct {
	script  Script
	config  configdisk.Config
	hosts   atomic.Pointer[[]configdisk.Host] // names received since the start; nil: none
	started time.Time
	wire    *wire
	space   *os.File // the guest's network namespace
}

// maxBeginning bounds the first message, in bytes: it contains a config disk in base64.
const maxBeginning = 2 * maxConfig

// live runs a guest's process until the stand-in exits.
func live() error {
	f := os.NewFile(3, "wire")
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	f.Close()
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("descriptor 3 is a %T", c)
	}
	g := &resident{started: time.Now(), wire: &wire{conn: conn}}
	buffer := make([]byte, maxBeginning)
	_, content, err := g.wire.receive(buffer)
	if err != nil {
		return nil // crosvm has exited
	}
	var b beginning
	if err := json.Unmarshal(content, &b); err != nil {
		return err
	}
	g.script = b.Script
	if g.config, err = configdisk.Decode(bytes.NewReader(b.Config), int64(len(b.Config))); err != nil {
		return err
	}
	card, err := g.join(b.MAC)
	if err != nil {
		g.wire.send(kindReady, []byte(err.Error()))
		return err
	}
	if err := g.wire.send(kindReady, nil); err != nil {
		return nil
	}
	go g.sendFrames(card)
	for {
		kind, content, err := g.wire.receive(buffer)
		switch {
		case err != nil:
			return nil // crosvm has exited
		case kind == kindFrame:
			card.Write(content)
		case kind == kindSaid && string(content) == guestapi.ConsoleShutdown:
			g.asked("console")
		}
	}
}

func (g *resident) sendFrames(card *os.File) {
	frame := make([]byte, maxFrame)
	for {
		n, err := card.Read(frame)
		if err != nil {
			return
		}
		if g.wire.send(kindFrame, frame[:n]) != nil {
			return
		}
	}
}

func (g *resident) end(e End) { g.wire.send(kindEnd, []byte(e)) }

// asked powers the guest off, unless the script ignores this request.
func (g *resident) asked(request string) {
	if !g.script.IsDeaf(request) {
		g.end(Off)
	}
}
