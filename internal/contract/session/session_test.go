package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// FuzzFrame: reading ends with an error or with a frame that encodes to the same bytes.
func FuzzFrame(f *testing.F) {
	f.Add(Frame{Output, []byte("hello")}.append(nil))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{9, 0, 0, 0, 0})
	f.Add([]byte{2, 0, 0, 0, 4, 'a'})
	f.Fuzz(func(t *testing.T, text []byte) {
		frame, err := readFrame(iotest.OneByteReader(bytes.NewReader(text)))
		if err != nil {
			return
		}
		if back := frame.append(nil); !bytes.HasPrefix(text, back) || len(frame.Payload) > MaxPayload {
			t.Errorf("%x became %x", text, back)
		}
	})
}

func TestFrameBounds(t *testing.T) {
	for name, c := range map[string]struct {
		text []byte
		want error
	}{
		"nothing":   {nil, io.EOF},
		"cut":       {[]byte{2, 0, 0, 0, 4, 'a'}, io.ErrUnexpectedEOF},
		"no kind":   {[]byte{0, 0, 0, 0, 0}, ErrFrame},
		"unknown":   {[]byte{9, 0, 0, 0, 0}, ErrFrame},
		"too large": {[]byte{2, 0, 1, 0, 1}, ErrFrame},
	} {
		if _, err := readFrame(bytes.NewReader(c.text)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	conn := NewConn(nil, io.Discard, func() error { return nil })
	if err := conn.Send(Input, make([]byte, MaxPayload+1)); !errors.Is(err, ErrFrame) {
		t.Errorf("a frame over the limit is sent: %v", err)
	}
}

func FuzzStart(f *testing.F) {
	f.Add([]byte(`{"command":["ls","-l"],"user":"postgres","terminal":{"rows":24,"columns":80},"env":{"A":"b"},"caller":"a@b"}`))
	f.Add([]byte(`{"command":["a\u0000"]}`))
	f.Add([]byte(`{"user":"../etc"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseStart(text)
		if err != nil {
			return
		}
		all := strings.Join(s.Command, "") + s.User
		for name, value := range s.Env {
			all += name + value
		}
		if s.User == "" || strings.ContainsRune(all, 0) {
			t.Errorf("%q is accepted as %+v", text, s)
		}
	})
}

// peers returns the two ends of a connection over an unbuffered pipe.
func peers(t *testing.T) (client, guest *Conn) {
	t.Helper()
	a, b := net.Pipe()
	client, guest = NewConn(a, a, a.Close), NewConn(b, b, b.Close)
	t.Cleanup(func() { client.Close(); guest.Close() })
	return client, guest
}

func TestRun(t *testing.T) {
	client, guest := peers(t)
	go func() {
		f, err := guest.Receive()
		if start, bad := ParseStart(f.Payload); err != nil || bad != nil || f.Kind != Begin || start.User != DefaultUser {
			t.Errorf("%+v, %v, %v", f, err, bad)
		}
		var input []byte
		for f.Kind != InputEnd {
			if f, err = guest.Receive(); err != nil {
				t.Errorf("input: %v", err)
				return
			}
			input = append(input, f.Payload...)
		}
		guest.Send(Output, input)
		guest.Send(Errors, []byte("oh"))
		guest.SendJSON(End, Exit{Status: 3})
	}()
	var out, errOut strings.Builder
	exit, err := Run(t.Context(), client, Start{Command: []string{"cat"}}, Streams{In: strings.NewReader("hello"), Out: &out, Errors: &errOut})
	if err != nil || exit.Status != 3 || out.String() != "hello" || errOut.String() != "oh" {
		t.Errorf("%+v, %v: %q %q", exit, err, out.String(), errOut.String())
	}
}

// TestPeerIsLost: a connection closed without an End frame, a silent peer and a cancelled context
// end a session, each with its error.
func TestPeerIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		patience time.Duration
		guest    func(*Conn, context.CancelFunc)
		want     error
		text     string
	}{
		"closed":    {time.Minute, func(g *Conn, _ context.CancelFunc) { g.Close() }, ErrLost, "EOF"},
		"silent":    {20 * time.Millisecond, func(*Conn, context.CancelFunc) {}, ErrLost, "nothing has come for 20ms"},
		"cancelled": {time.Minute, func(_ *Conn, cancel context.CancelFunc) { cancel() }, context.Canceled, ""},
		"stranger":  {time.Minute, func(g *Conn, _ context.CancelFunc) { g.w.Write([]byte("HTTP/1.1 400 Bad Request\r\n")) }, ErrLost, "not a frame"},
	} {
		t.Run(name, func(t *testing.T) {
			client, guest := peers(t)
			client.patience = c.patience
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				guest.Receive()
				c.guest(guest, cancel)
				io.Copy(io.Discard, guest.r)
			}()
			never, _ := io.Pipe()
			_, err := Run(ctx, client, Start{}, Streams{In: never, Out: io.Discard, Errors: io.Discard})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %v with %q", err, c.want, c.text)
			}
		})
	}
}

// TestKeptAlive: a session whose peers send only keep-alive frames is not lost.
func TestKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, guest := peers(t)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			guest.Receive()
			alive := make(chan struct{})
			go func() { guest.KeepAlive(ctx); close(alive) }()
			go io.Copy(io.Discard, guest.r)
			time.Sleep(10 * Patience) // on the fake clock
			cancel()
			<-alive
			guest.SendJSON(End, Exit{})
		}()
		never, end := io.Pipe()
		defer end.Close()
		if _, err := Run(t.Context(), client, Start{}, Streams{In: never, Out: io.Discard, Errors: io.Discard}); err != nil {
			t.Error(err)
		}
	})
}
