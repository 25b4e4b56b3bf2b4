package phonetest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/await"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// NewLight returns a phone with a light machine and these settings of the runner.
func NewLight(t testing.TB, routing vmspec.Routing, s lightguest.Script, settings string) *Handset {
	t.Helper()
	return NewLightOn(t, androidtest.Options{}, routing, s, settings)
}

// NewLightOn is NewLight on a phone with options.
func NewLightOn(t testing.TB, o androidtest.Options, routing vmspec.Routing, s lightguest.Script, settings string) *Handset {
	t.Helper()
	o.InMemory = true
	h := &Handset{Phone: androidtest.New(t, o), T: t}
	h.VM = h.InstallLight("sql", routing, s)
	h.Put(phonepath.Default.Settings(), settings, 0o644)
	return h
}

var BothRoutings = []vmspec.Routing{vmspec.MainFirst, vmspec.Scoped}

// StartedAgain starts a machine after a kill of its processes, again and again until the network
// matches a snapshot: up may take a process that was just killed for alive.
func (h *Handset) StartedAgain(what, want string) {
	h.T.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		h.Do("up", "sql")
		if now := h.Snapshot(); now == want || time.Now().After(deadline) {
			SameNetwork(h.T, what, want, now)
			return
		}
	}
}

// Settles waits until the phone's network matches a snapshot.
func (h *Handset) Settles(what, want string) {
	h.T.Helper()
	var now string
	await.Until(sovtest.WaitLimit, 20*time.Millisecond, func() bool {
		now = h.Snapshot()
		return now == want
	})
	SameNetwork(h.T, what, want, now)
}

// phaseOnDisk returns the phase that the daemon wrote last.
func (h *Handset) phaseOnDisk() runnerapi.Phase {
	h.T.Helper()
	text, err := os.ReadFile(h.File(h.VM.State()))
	if err != nil {
		return "before the first state"
	}
	s, err := runnerapi.Decode(text)
	if err != nil {
		h.T.Fatal(err)
	}
	return s.Phase
}

// GoOut makes the guest connect to the server in the internet. It returns the address that the
// server sees, or "".
func (h *Handset) GoOut() string {
	h.T.Helper()
	address, err := h.goOut()
	if err != nil {
		h.T.Fatalf("connect to the guest: %v\n%s", err, h.Logs())
	}
	return address
}

// goOut is GoOut, and returns an error if the guest is unreachable.
func (h *Handset) goOut() (string, error) {
	ctx, cancel := context.WithTimeout(h.T.Context(), sovtest.WaitLimit)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", net.JoinHostPort("192.168.100.2", strconv.Itoa(lightguest.RelayPort)))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "%s:80\nGET / HTTP/1.0\r\n\r\n", androidtest.ServerIP)
	answer, _ := io.ReadAll(conn)
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	return strings.TrimSpace(body), nil
}

// End makes the guest end in the given way.
func (h *Handset) End(how lightguest.End) {
	h.T.Helper()
	ctx, cancel := context.WithTimeout(h.T.Context(), sovtest.WaitLimit)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", net.JoinHostPort("192.168.100.2", strconv.Itoa(lightguest.LifePort)))
	if err != nil {
		h.T.Fatalf("connect to the guest: %v\n%s", err, h.Logs())
	}
	defer conn.Close()
	fmt.Fprintln(conn, how)
}

// KillInBetween starts a machine and kills its processes at random times, for a number of cycles.
// After each down, the phone's network must be exactly as before.
func KillInBetween(t *testing.T, routing vmspec.Routing, cycles int) {
	t.Helper()
	h := NewLight(t, routing, lightguest.Script{}, `{"shutdown_timeout": 1}`)
	before := h.Snapshot()
	random := rand.New(rand.NewPCG(1, uint64(len(routing))))
	phases := map[runnerapi.Phase]int{}
	for i := range cycles {
		h.KillRandomProcess(random, 600*time.Millisecond)
		phases[h.phaseOnDisk()]++
		h.Do("down", "sql")
		SameNetwork(t, fmt.Sprintf("cycle %d", i), before, h.Snapshot())
		if t.Failed() {
			t.Fatal(h.Logs())
		}
	}
	t.Logf("killed while %v", phases)
}

// KillAndStartAgain is KillInBetween without down. After each start, the phone's network must be
// the same as after the first one.
func KillAndStartAgain(t *testing.T, routing vmspec.Routing, cycles int) {
	t.Helper()
	h := NewLight(t, routing, lightguest.Script{}, `{"shutdown_timeout": 1}`)
	before := h.Snapshot()
	h.Do("up", "sql")
	up := h.Snapshot()
	random := rand.New(rand.NewPCG(2, uint64(len(routing))))
	for i := range cycles {
		h.KillRandomProcess(random, 600*time.Millisecond)
		h.StartedAgain(fmt.Sprintf("start %d", i), up)
		if t.Failed() {
			t.Fatal(h.Logs())
		}
	}
	h.Do("down", "sql")
	SameNetwork(t, "after down", before, h.Snapshot())
}
