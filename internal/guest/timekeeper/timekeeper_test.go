package timekeeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereign-sql/sov/internal/sntp"
)

// A world has a true time, which is the test's clock, and a clock that differs from it.
type world struct {
	mu      sync.Mutex
	off     time.Duration // how far the clock is ahead, without the effect of braked
	braked  bool
	since   time.Time // of the last change of braked
	drift   time.Duration
	refuses error
	steps   []time.Duration
	log     []string
}

func (w *world) Forward(d time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuses != nil {
		return w.refuses
	}
	if d <= 0 {
		return fmt.Errorf("forward by %s", d)
	}
	w.steps = append(w.steps, d)
	w.off += d
	return nil
}

func (w *world) Drift(d time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drift = d
	w.off += d // at once, for the test
	return w.refuses
}

func (w *world) Brake(on bool) error {
	ahead := w.ahead()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off, w.braked, w.since = ahead, on, time.Now()
	return w.refuses
}

// ahead returns how far the clock is ahead. A braked clock also slows the keeper's timers, but not
// a bubble's. The simulated brake therefore corrects 1/9 of a timer's duration, not 1/10.
func (w *world) ahead() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.braked {
		return w.off - time.Since(w.since)/(brakeShare-1)
	}
	return w.off
}

// move puts the clock ahead by d.
func (w *world) move(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off += d
}

func (w *world) isBraked() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.braked
}

// stepped returns how often the clock was set.
func (w *world) stepped() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.steps)
}

// source returns a source of the true time.
func (w *world) source(name string, every time.Duration) *testSource {
	s := &testSource{w: w}
	s.Source = Source{Name: name, Every: every, Read: func(context.Context) (Reading, error) {
		w.mu.Lock()
		s.asked = append(s.asked, time.Now())
		fault := s.fault
		w.mu.Unlock()
		if fault != nil {
			return Reading{}, fault
		}
		return Reading{Server: name + "'s", Offset: -w.ahead(), Uncertainty: time.Millisecond}, nil
	}}
	return s
}

type testSource struct {
	Source
	w     *world
	fault error
	asked []time.Time
}

// fail makes the source return err. With nil it returns the time again.
func (s *testSource) fail(err error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.fault = err
}

// times returns the times at which the source was read.
func (s *testSource) times() []time.Time {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return slices.Clone(s.asked)
}

func (w *world) keeper(sources ...*testSource) *Keeper {
	k := &Keeper{Clock: w, Log: func(text string, attrs ...any) { w.log = append(w.log, fmt.Sprint(append([]any{text}, attrs...)...)) }}
	for _, s := range sources {
		k.Sources = append(k.Sources, s.Source)
	}
	return k
}

func TestCorrections(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ahead time.Duration
		steps int
		drift time.Duration
		brake bool
		fault string
	}{
		{name: "right", ahead: 500 * time.Microsecond},
		{name: "a little behind", ahead: -100 * time.Millisecond, drift: 100 * time.Millisecond},
		{name: "a little ahead", ahead: 100 * time.Millisecond, drift: -100 * time.Millisecond},
		{name: "behind", ahead: -130 * time.Millisecond, steps: 1},
		{name: "in 1970", ahead: -57 * 365 * 24 * time.Hour, steps: 1},
		{name: "ahead", ahead: 5 * time.Second, brake: true},
		{name: "in 2120", ahead: 100 * 365 * 24 * time.Hour, brake: true, fault: "ahead. It is not set back"},
		{name: "far ahead", ahead: time.Hour, brake: true, fault: "1h0m0s ahead. It is not set back while services run, but runs a tenth slower, for the next 10h0m0s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{off: tt.ahead}
			k := w.keeper(w.source("sntp", time.Minute))
			status := k.Look(t.Context())
			if len(w.steps) != tt.steps || w.drift != tt.drift || w.braked != tt.brake || !strings.Contains(status.Fault, tt.fault) || (tt.fault == "") != (status.Fault == "") {
				t.Errorf("%+v, %+v", w, status)
			}
			if status.Source != "sntp" || status.Server != "sntp's" || status.LastSync.IsZero() || status.Offset != -tt.ahead.Seconds() {
				t.Errorf("%+v", status)
			}
		})
	}
}

// TestClockAhead: a clock that is ahead becomes right without being set back, and is checked until
// then.
func TestClockAhead(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared=%v", shared), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{off: 40 * time.Second}
				s := w.source("sntp", time.Minute)
				s.Shared = shared
				k := w.keeper(s)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { k.Run(ctx); close(done) }()
				time.Sleep(30 * time.Minute)
				synctest.Wait()
				if w.ahead().Abs() > stepAbove || w.isBraked() || w.stepped() > 0 {
					t.Errorf("after half an hour %v ahead, braked %v, steps %v", w.ahead(), w.isBraked(), w.stepped())
				}
				cancel()
				<-done
				if shared {
					for i := 1; i < len(s.times()); i++ {
						if pause := s.times()[i].Sub(s.times()[i-1]); pause < s.Every {
							t.Errorf("asked again after %v", pause)
						}
					}
				}
			})
		})
	}
}

func TestSourcesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		host, public := w.source("sntp", 64*time.Second), w.source("pool", 1024*time.Second)
		public.Shared = true
		host.fail(errors.New("the host is deaf"))
		k := w.keeper(host, public)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { k.Run(ctx); close(done) }()
		synctest.Wait()
		if got := k.Status(); got.Source != "pool" {
			t.Errorf("kept by %+v while the host does not answer", got)
		}
		for range 20 {
			k.Look(ctx)
		}
		synctest.Wait()
		if len(public.times()) != 1 {
			t.Errorf("the public servers were asked %d times in a moment", len(public.times()))
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(public.times()) != 1 || len(host.times()) < 30 {
			t.Errorf("asked the public servers %d times, the host %d times", len(public.times()), len(host.times()))
		}
		host.fail(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := k.Status(); got.Source != "sntp" {
			t.Errorf("kept by %+v, though the host answers again", got)
		}
		cancel()
		<-done
	})
}

// TestLookBetweenRounds: Look finds the clock a little ahead while Run sleeps. The clock is braked
// no longer than necessary.
func TestLookBetweenRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		k := w.keeper(w.source("sntp", 64*time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { k.Run(ctx); close(done) }()
		synctest.Wait()
		w.move(time.Second)
		k.Look(ctx)
		synctest.Wait()
		if !w.isBraked() {
			t.Error("a clock that is a second ahead is not braked")
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if w.isBraked() || w.ahead().Abs() > stepAbove || w.stepped() > 0 {
			t.Errorf("20 s later it is %v ahead, braked %v, steps %v", w.ahead(), w.isBraked(), w.stepped())
		}
		cancel()
		<-done
	})
}

// TestHostSlept: after the phone slept, the next Look or round sets the clock forward.
func TestHostSlept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		k := w.keeper(w.source("sntp", 64*time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { k.Run(ctx); close(done) }()
		synctest.Wait()
		w.move(-time.Hour)
		k.Look(ctx)
		synctest.Wait()
		if w.ahead() != 0 {
			t.Errorf("%v after a look", w.ahead())
		}
		w.move(-time.Hour)
		time.Sleep(65 * time.Second)
		synctest.Wait()
		if w.ahead() != 0 {
			t.Errorf("%v after a minute", w.ahead())
		}
		cancel()
		<-done
	})
}

func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{off: time.Minute}
		s := w.source("sntp", time.Minute)
		k := w.keeper(s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { k.Run(ctx); close(done) }()
		synctest.Wait()
		if !w.isBraked() {
			t.Error("a clock a minute ahead is not braked")
		}
		s.fail(errors.New("no answer"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.isBraked() {
			t.Error("the clock stays braked without readings")
		}
		if got := k.Status(); !strings.Contains(got.Fault, "no answer") || got.Source != "sntp" {
			t.Errorf("%+v", got)
		}
		asked := len(s.times())
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(s.times()) - asked; n < 50 || n > 70 {
			t.Errorf("asked %d times in an hour", n)
		}
		cancel()
		<-done
	})
	k := (&world{}).keeper()
	if got := k.Look(t.Context()); got.Source != sourceAtBoot || got.Fault != "no time source answers" {
		t.Errorf("without any source: %+v", got)
	}
}

func TestClockThatCannotBeSet(t *testing.T) {
	w := &world{off: -time.Hour, refuses: errors.New("not permitted")}
	if got := w.keeper(w.source("sntp", time.Minute)).Look(t.Context()); !strings.Contains(got.Fault, "cannot be corrected: not permitted") {
		t.Errorf("%+v", got)
	}
}

// serve runs a time server on a loopback address. Its clock is ahead.
func serve(t *testing.T, address string, port uint16, ahead time.Duration, server sntp.Server) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", netip.AddrPortFrom(netip.MustParseAddr(address), port).String())
	if err != nil {
		t.Fatal(err)
	}
	server.Now = func() time.Time { return time.Now().Add(ahead) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { server.Serve(ctx, conn); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestHostIsAsked(t *testing.T) {
	deaf := serve(t, "127.0.0.1", 0, 0, sntp.Server{Trusted: func(time.Time) bool { return false }})
	good := serve(t, "127.0.0.1", 0, time.Hour, sntp.Server{})
	r, err := Host([]netip.AddrPort{deaf, good}).Read(t.Context())
	if err != nil || (r.Offset-time.Hour).Abs() > time.Second || r.Server != "127.0.0.1" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Host([]netip.AddrPort{deaf}).Read(t.Context()); err == nil {
		t.Error("a server whose clock is not set is believed")
	}
}

// TestPublicServersHaveToAgree: a wrong server is outvoted. Two servers that disagree are an error,
// as is a server that does not answer.
func TestPublicServersHaveToAgree(t *testing.T) {
	first := serve(t, "127.0.0.11", 0, time.Minute, sntp.Server{})
	port := first.Port()
	serve(t, "127.0.0.12", port, time.Minute, sntp.Server{})
	serve(t, "127.0.0.13", port, 10*time.Hour, sntp.Server{})
	names := map[string][]string{
		"good": {"127.0.0.11", "127.0.0.12", "127.0.0.13"}, "split": {"127.0.0.11", "127.0.0.13"}, "one": {"127.0.0.12"}, "none": {"127.0.0.14"},
	}
	read := func(name string) (Reading, error) {
		p := &pool{names: []string{name}, port: port, resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
			var list []netip.Addr
			for _, a := range names[name] {
				list = append(list, netip.MustParseAddr(a))
			}
			if list == nil {
				return nil, errors.New("no such host")
			}
			return list, nil
		}}
		return p.source().Read(t.Context())
	}
	for _, name := range []string{"good", "one"} {
		if r, err := read(name); err != nil || (r.Offset-time.Minute).Abs() > time.Second {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	for name, want := range map[string]string{"split": "tell different times", "none": "refused", "unknown": "no such host"} {
		if r, err := read(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %q", name, r, err, want)
		}
	}
}

func TestRateLimitsAreRespected(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	p := &pool{names: []string{"pool"}, resolve: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{a}, nil }}
	p.source()
	for code, want := range map[string]time.Duration{"RATE": rateRest, "DENY": 50 * 365 * 24 * time.Hour} {
		p.heed(a, fmt.Errorf("ask: %w", &sntp.Kiss{Code: code}))
		if rest := time.Until(p.resting[a]); rest < want-time.Minute {
			t.Errorf("%s: left alone for %v", code, rest)
		}
		if servers, err := p.servers(t.Context()); len(servers) > 0 || err == nil {
			t.Errorf("%s: %v, %v", code, servers, err)
		}
	}
}
