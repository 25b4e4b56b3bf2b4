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

// NewLight returns a phone with a light machine; settings are the runner's.
func NewLight(t testing.TB, routing vmspec.Routing, s lightguest.Script, settings string) *Handset {
	t.Helper()
	return NewLightOn(t, androidtest.Options{}, routing, s, settings)
}

// NewLightOn is NewLight on a phone of some make.
func NewLightOn(t testing.TB, o androidtest.Options, routing vmspec.Routing, s lightguest.Script, settings string) *Handset {
	t.Helper()
	o.InMemory = true
	h := &Handset{Phone: androidtest.New(t, o), T: t}
	h.VM = h.InstallLight("sql", routing, s)
	h.Put(phonepath.Default.Settings(), settings, 0o644)
	return h
}

var BothRoutings = []vmspec.Routing{vmspec.MainFirst, vmspec.Scoped}

// StartedAgain starts a machine of which a process was killed, until the network is as in a
// snapshot: who was killed a moment ago may be taken for alive.
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

// Settles waits until the phone's network is as in a snapshot.
func (h *Handset) Settles(what, want string) {
	h.T.Helper()
	var now string
	await.Until(sovtest.WaitLimit, 20*time.Millisecond, func() bool {
		now = h.Snapshot()
		return now == want
	})
	SameNetwork(h.T, what, want, now)
}

// phaseOnDisk is the phase that the daemon wrote last.
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

// GoOut has the guest connect to the internet's server and returns by which address that sees it,
// or "".
func (h *Handset) GoOut() string {
	h.T.Helper()
	address, err := h.goOut()
	if err != nil {
		h.T.Fatalf("connect to the guest: %v\n%s", err, h.Logs())
	}
	return address
}

// goOut is GoOut; the error is that of a guest which is not reached.
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

// End has the guest end in one of its ways.
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

// KillInBetween starts a machine and kills one of its processes that many times: down leaves the
// phone as it was, to the line.
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

// KillAndStartAgain is KillInBetween without a down: there is one set of rules, however often the
// machine is started.
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
