package sntp

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func TestTimestamps(t *testing.T) {
	for _, tt := range []struct {
		at   string
		want timestamp
	}{
		// RFC 5905, figure 4, for dates that the rule for both eras covers.
		{"1972-01-01T00:00:00Z", 2_272_060_800 << 32},
		{"1999-12-31T00:00:00Z", 3_155_587_200 << 32},
		{"2036-02-07T06:28:15.5Z", 0xffffffff_80000000},
		{"2036-02-07T06:28:16Z", 0},
		{"2036-02-08T00:00:00Z", 63_104 << 32},
		{"2026-07-01T12:00:00.25Z", (2_208_988_800+1_782_907_200)<<32 | 1<<30},
	} {
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := timestampOf(at); got != tt.want {
			t.Errorf("%s is %016x, want %016x", tt.at, got, tt.want)
		}
		if got := tt.want.time(); !got.Equal(at) {
			t.Errorf("%016x is %s, want %s", tt.want, got, tt.at)
		}
	}
	for nanosecond := 0; nanosecond < 1e9; nanosecond += 12_345_679 {
		at := time.Unix(1_800_000_000, int64(nanosecond))
		if got := timestampOf(at).time(); !got.Equal(at) {
			t.Errorf("%s comes back as %s", at, got)
		}
	}
}

func TestPacketLayout(t *testing.T) {
	p := packet{
		leap: 1, version: 4, mode: modeServer, stratum: 2, poll: 6, precision: -20, rootDelay: 0x00010203, rootDispersion: 0x04050607,
		reference: [4]byte{8, 9, 10, 11}, referenceTime: 0x1112131415161718, origin: 0x2122232425262728,
		receive: 0x3132333435363738, transmit: 0x4142434445464748,
	}
	const want = "640206ec" + "00010203" + "04050607" + "08090a0b" + "1112131415161718" + "2122232425262728" + "3132333435363738" + "4142434445464748"
	if got := hex.EncodeToString(p.bytes()); got != want {
		t.Errorf("written as %s, want %s", got, want)
	}
	if got, err := parse(append(p.bytes(), "a MAC"...)); err != nil || got != p {
		t.Errorf("read as %+v, %v", got, err)
	}
	if _, err := parse(p.bytes()[:47]); err == nil {
		t.Error("47 bytes are taken for a packet")
	}
}

// falseServer answers one query with these packets.
func falseServer(t *testing.T, answers ...func(q packet) packet) netip.AddrPort {
	t.Helper()
	conn := listen(t)
	go func() {
		b := make([]byte, 100)
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		q, err := parse(b[:n])
		if err != nil {
			t.Errorf("the question: %v", err)
			return
		}
		for _, answer := range answers {
			conn.WriteTo(answer(q).bytes(), from)
		}
	}()
	return address(conn)
}

func listen(t testing.TB) net.PacketConn {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func address(conn net.PacketConn) netip.AddrPort { return conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// honest returns a good server's answer with a change.
func honest(change func(*packet)) func(packet) packet {
	return func(q packet) packet {
		a, err := parse(Server{}.answer(q.bytes()))
		if err != nil {
			panic(err)
		}
		a.stratum = 2
		if change != nil {
			change(&a)
		}
		return a
	}
}

func TestClientChecksReplies(t *testing.T) {
	ahead := time.Now().Add(time.Hour)
	for name, tt := range map[string]struct {
		answers []func(packet) packet
		want    string // a part of the error; empty: an hour's offset
	}{
		"an hour ahead": {[]func(packet) packet{honest(func(a *packet) { a.receive, a.transmit = timestampOf(ahead), timestampOf(ahead) })}, ""},
		"after an answer to another question": {[]func(packet) packet{
			honest(func(a *packet) { a.origin++ }),
			honest(func(a *packet) { a.origin = 0 }),
			honest(func(a *packet) { a.mode = 5 }),
			honest(func(a *packet) { a.receive, a.transmit = timestampOf(ahead), timestampOf(ahead) }),
		}, ""},
		"not set":             {[]func(packet) packet{honest(func(a *packet) { a.leap = leapUnknown })}, "own clock is not set"},
		"stratum 16":          {[]func(packet) packet{honest(func(a *packet) { a.stratum = 16 })}, "own clock is not set"},
		"never set":           {[]func(packet) packet{honest(func(a *packet) { a.stratum, a.reference = 0, [4]byte{'I', 'N', 'I', 'T'} })}, "own clock is not set"},
		"no time":             {[]func(packet) packet{honest(func(a *packet) { a.transmit = 0 })}, "no time in it"},
		"sent before it came": {[]func(packet) packet{honest(func(a *packet) { a.receive += 2 << 32 })}, "before the question came"},
		"took too long":       {[]func(packet) packet{honest(func(a *packet) { a.transmit += 5 << 32 })}, "took longer than it did"},
		"far from the source": {[]func(packet) packet{honest(func(a *packet) { a.rootDispersion = shortDuration(2 * time.Second) })}, "well enough"},
		"rate":                {[]func(packet) packet{honest(func(a *packet) { a.stratum, a.reference = 0, [4]byte{'R', 'A', 'T', 'E'} })}, "answers RATE"},
		"silence":             {nil, "no answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			patience := 10 * time.Second
			if tt.answers == nil {
				patience = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r, err := Client{}.Ask(ctx, falseServer(t, tt.answers...))
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want == "" && (r.Offset-time.Hour).Abs() > time.Minute:
				t.Errorf("the offset is %v", r.Offset)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestKissOfDeath(t *testing.T) {
	for code, final := range map[string]bool{"RATE": false, "DENY": true, "RSTR": true, "XYZW": false} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := Client{}.Ask(ctx, falseServer(t, honest(func(a *packet) { a.stratum, a.reference = 0, [4]byte([]byte(code)) })))
		cancel()
		var kiss *Kiss
		if !errors.As(err, &kiss) || kiss.Code != code || kiss.Final() != final {
			t.Errorf("%s: %v, final %v", code, err, kiss != nil && kiss.Final())
		}
	}
}

func TestClosedPortIsReportedAtOnce(t *testing.T) {
	conn := listen(t)
	server := address(conn)
	conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := Client{}.Ask(ctx, server)
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v, want a refused connection", err)
	}
}

// TestClientAndServer: the client's clock may have any error, even before the NTP epoch.
func TestClientAndServer(t *testing.T) {
	conn := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Server{}.Serve(ctx, conn) }()
	for _, behind := range []time.Duration{0, time.Hour, -time.Hour, time.Since(time.Unix(0, 0)), 25 * time.Millisecond} {
		client := Client{Now: func() time.Time { return time.Now().Add(-behind) }}
		asking, stop := context.WithTimeout(t.Context(), 10*time.Second)
		r, err := client.Ask(asking, address(conn))
		stop()
		if err != nil {
			t.Fatal(err)
		}
		// The test must not depend on the host's speed: the offset is correct to half the delay.
		if off := (r.Offset - behind).Abs(); off > r.Delay/2+time.Millisecond || r.Stratum != localStratum {
			t.Errorf("a clock %v behind: %+v, off by %v", behind, r, off)
		}
	}
	for _, nonsense := range []string{"", "short", strings.Repeat("\xff", 48), strings.Repeat("\x00", 48)} {
		if answer := (Server{}).answer([]byte(nonsense)); answer != nil {
			t.Errorf("%q is answered", nonsense)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("serving ended with %v", err)
	}
}

func TestServerWithUnsetClock(t *testing.T) {
	conn := listen(t)
	go Server{Trusted: func(time.Time) bool { return false }}.Serve(t.Context(), conn)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := (Client{}).Ask(ctx, address(conn)); err == nil || !strings.Contains(err.Error(), "own clock is not set") {
		t.Errorf("%v", err)
	}
}

// FuzzAnswer: an answer is either refused or leads to a usable reading.
func FuzzAnswer(f *testing.F) {
	sent := time.Unix(1_800_000_000, 0)
	f.Add(Server{Now: func() time.Time { return sent }}.answer(packet{version: 4, mode: modeClient, transmit: 7}.bytes()))
	f.Add(packet{version: 4, mode: modeServer, origin: 7, reference: [4]byte{'R', 'A', 'T', 'E'}}.bytes())
	f.Add([]byte(strings.Repeat("\x24", 60)))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Text.Watch(t, len(b))()
		p, err := parse(b)
		if err != nil {
			return
		}
		if again, err := parse(p.bytes()); err != nil || again != p {
			t.Fatalf("%+v becomes %+v, %v", p, again, err)
		}
		if p.check(7) != nil {
			return
		}
		r, err := reading(p, sent, sent.Add(time.Millisecond))
		if err == nil && (r.Delay < 0 || r.Delay > time.Millisecond || r.Offset.Abs() > 140*365*24*time.Hour) {
			t.Errorf("%+v from %+v", r, p)
		}
	})
}

// FuzzQuestion: an answer is not longer than the query, and contains the client's number.
func FuzzQuestion(f *testing.F) {
	f.Add(packet{version: 4, mode: modeClient, transmit: 7}.bytes())
	f.Add(packet{version: 1, mode: modeClient}.bytes())
	f.Add([]byte("not NTP"))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Text.Watch(t, len(b))()
		answer := Server{}.answer(b)
		if len(answer) > len(b) {
			t.Fatalf("%d bytes are answered with %d", len(b), len(answer))
		}
		if answer == nil {
			return
		}
		q, _ := parse(b)
		a, err := parse(answer)
		if err != nil || a.origin != q.transmit || a.version != q.version {
			t.Errorf("%+v is answered with %+v, %v", q, a, err)
		}
	})
}

// TestStream: a stream is used like a network. Late answers to earlier queries are skipped.
func TestStream(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	ahead := time.Now().Add(time.Hour)
	served := make(chan struct{})
	go func() {
		defer close(served)
		Server{Now: func() time.Time { return ahead }}.ServeStream(theirs)
	}()
	for range 2 {
		r, err := Client{}.AskOver(t.Context(), ours)
		if err != nil || (r.Offset-time.Hour).Abs() > time.Minute {
			t.Errorf("%+v, %v", r, err)
		}
	}
	ours.Close()
	<-served

	ours, theirs = net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go func() {
		question := make([]byte, packetSize)
		for range 2 {
			if _, err := io.ReadFull(theirs, question); err != nil {
				return
			}
		}
		q, _ := parse(question)
		theirs.Write(honest(func(a *packet) { a.origin++ })(q).bytes())
		theirs.Write(honest(nil)(q).bytes())
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (Client{}).AskOver(ctx, ours); err == nil || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("a silent server: %v", err)
	}
	if r, err := (Client{}).AskOver(t.Context(), ours); err != nil || r.Offset.Abs() > time.Minute {
		t.Errorf("after a late answer: %+v, %v", r, err)
	}
}
