package androidtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Packet types of the shell protocol (packages/modules/adb/shell_protocol.h). A packet is a byte
// with its type, a 32-bit little-endian length, and that many bytes.
const (
	packetStdin      = 0
	packetStdout     = 1
	packetStderr     = 2
	packetExit       = 3
	packetCloseStdin = 4
	packetWindow     = 5
)

// readPacket reads one packet of the shell protocol.
func readPacket(r io.Reader) (kind byte, data []byte, err error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.LittleEndian.Uint32(header[1:])
	if header[0] > packetWindow || size > adbMaxPayload {
		return 0, nil, fmt.Errorf("packet %d of %d bytes is none of the shell protocol", header[0], size)
	}
	data = make([]byte, size)
	_, err = io.ReadFull(r, data)
	return header[0], data, err
}

func appendPacket(b []byte, kind byte, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(append(b, kind), uint32(len(data))), data...)
}

// A shellProcess is a command that runs as the user shell, with the computer's ends of its pipes.
type shellProcess struct {
	command        *exec.Cmd
	stdin          io.WriteCloser
	stdout, stderr io.Reader
	stop           func() // closes the computer's ends
}

// startShell starts a shell command; together sends its standard error to its standard output. The
// pipes are files: they stay open after the process exits, until its children close them.
func (t *transport) startShell(script string, together bool) (*shellProcess, error) {
	p := &shellProcess{command: t.asShell(shell, "-c", script)}
	var theirs, ours []*os.File
	pipe := func(towards bool) *os.File {
		r, w, err := os.Pipe()
		if err != nil {
			return nil
		}
		if towards {
			r, w = w, r
		}
		theirs, ours = append(theirs, w), append(ours, r)
		return w
	}
	p.command.Stdin, p.command.Stdout = pipe(true), pipe(false)
	p.command.Stderr = p.command.Stdout
	if !together {
		p.command.Stderr = pipe(false)
	}
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	if len(ours) < 2 {
		return nil, errors.New("make pipes")
	}
	p.stdin, p.stdout = ours[0], ours[1]
	if !together {
		p.stderr = ours[2]
	}
	// Processes that still hold a pipe after the stream is closed must not delay the test's end.
	p.stop = func() {
		for _, f := range ours {
			f.Close()
		}
	}
	if err := p.command.Start(); err != nil {
		p.stop()
		return nil, err
	}
	context.AfterFunc(t.ctx, p.stop)
	return p, nil
}

// hangUp closes the pipes and sends the shell SIGHUP, as adbd does. It signals the shell only: adbd
// may not signal processes of root.
func (p *shellProcess) hangUp() {
	p.stop()
	pid := strconv.Itoa(p.command.Process.Pid) // of nsenter, the shell's parent
	children, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	for _, child := range strings.Fields(string(children)) {
		if n, err := strconv.Atoi(child); err == nil {
			unix.Kill(n, unix.SIGHUP)
		}
	}
}

// shellV2 serves a command with a separate standard error and an exit status. Like adbd, it waits
// until no process holds the command's pipes.
func (t *transport) shellV2(s *adbStream, script string) {
	var writing sync.Mutex
	send := func(kind byte, data []byte) error {
		writing.Lock()
		defer writing.Unlock()
		_, err := s.Write(appendPacket(nil, kind, data))
		return err
	}
	p, err := t.startShell(script, false)
	if err != nil {
		send(packetStderr, []byte(err.Error()))
		send(packetExit, []byte{1})
		return
	}
	go func() {
		p.feed(s)
		<-s.closed
		p.hangUp()
	}()
	var output sync.WaitGroup
	for kind, from := range map[byte]io.Reader{packetStdout: p.stdout, packetStderr: p.stderr} {
		output.Go(func() {
			buffer := make([]byte, 32<<10)
			for {
				n, err := from.Read(buffer)
				if n > 0 && send(kind, buffer[:n]) != nil || err != nil {
					return
				}
			}
		})
	}
	output.Wait()
	p.command.Wait()
	send(packetExit, []byte{byte(p.command.ProcessState.ExitCode())})
}

// feed copies the stream's packets to the command's standard input until either is closed.
func (p *shellProcess) feed(s *adbStream) {
	var refused bool // the command no longer reads; further input is dropped
	for {
		kind, data, err := readPacket(s)
		switch {
		case err != nil || kind == packetCloseStdin:
			p.stdin.Close()
			if err != nil {
				return
			}
		case kind == packetStdin && !refused:
			_, err := io.Copy(p.stdin, bytes.NewReader(data))
			refused = err != nil
		}
	}
}

// shellV1 serves a command with standard output and standard error combined and without an exit
// status.
func (t *transport) shellV1(s *adbStream, script string) {
	p, err := t.startShell(script, true)
	if err != nil {
		fmt.Fprintln(s, err)
		return
	}
	go func() {
		io.Copy(p.stdin, s)
		<-s.closed
		p.hangUp()
	}()
	io.Copy(s, p.stdout)
	p.command.Wait()
}
