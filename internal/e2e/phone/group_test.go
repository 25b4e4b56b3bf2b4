package phone

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestGroup: machines of a group find each other by name and reach each other's published ports, and nothing else, also one
// that is installed later or restarted while the other runs. The phone gives each its network.
func TestGroup(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLightOn(t, androidtest.Options{}, vmspec.Scoped, lightguest.Script{}, "{}")
	in := func(group string) func(*vmspec.Network) {
		return func(n *vmspec.Network) { n.Group, n.AddressUnset = group, true }
	}
	status := func(name string) *health.Machine {
		t.Helper()
		return phonetest.Health(t, h.Runner("status", name, "--json").Stdout)
	}
	// from has a machine's guest connect, and returns what a database says there, or "".
	from := func(name, to string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), sovtest.WaitLimit)
		defer cancel()
		conn, err := h.Dial(ctx, "tcp", net.JoinHostPort(status(name).Network.Guest.Addr().String(), strconv.Itoa(lightguest.RelayPort)))
		if err != nil {
			t.Fatalf("connect to %s: %v", name, err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(sovtest.WaitLimit))
		fmt.Fprintf(conn, "%s\n01234567\n", to)
		answer, _ := io.ReadAll(io.LimitReader(conn, 1)) // nothing: it was refused
		return string(answer)
	}
	if err := os.RemoveAll(h.File(h.VM.Dir())); err != nil {
		t.Fatal(err)
	}
	h.InstallLight("sql", vmspec.Scoped, lightguest.Script{}, in("home"))
	h.Do("up", "sql")
	first := status("sql").Crosvm
	for _, later := range []struct{ name, group string }{{"forge", "home"}, {"stranger", "away"}} {
		h.InstallLight(later.name, vmspec.Scoped, lightguest.Script{}, in(later.group))
		h.Do("up", later.name)
	}
	subnets := map[string]bool{}
	for _, name := range []string{"sql", "forge", "stranger"} {
		subnets[status(name).Network.Host.Masked().String()] = true
	}
	if len(subnets) != 3 || !subnets["192.168.100.0/24"] {
		t.Errorf("three machines have the networks %v", subnets)
	}
	h.Eventually("sql reaches forge by name", func() bool { return from("sql", "forge.internal:5432") == "N" })
	if got := from("forge", "sql.internal:5432"); got != "N" {
		t.Errorf("forge does not reach sql by name: %q", got)
	}
	stranger := status("stranger").Network.Guest.Addr().String()
	for _, to := range []string{"sql.internal:" + strconv.Itoa(guestspec.EndpointPort), stranger + ":5432"} { // not published, and not of the group
		if got := from("forge", to); got != "" {
			t.Errorf("forge reaches %s", to)
		}
	}
	if got := from("stranger", status("sql").Network.Guest.Addr().String()+":5432"); got != "" {
		t.Error("a machine of another group reaches sql")
	}
	before := status("forge").Network.Guest
	h.Do("restart", "forge")
	h.Eventually("sql reaches forge again", func() bool { return from("sql", "forge.internal:5432") == "N" })
	if after := status("forge").Network.Guest; after != before {
		t.Errorf("forge moved from %s to %s", before, after)
	}
	if now := status("sql").Crosvm; now != first {
		t.Errorf("sql was restarted: process %d, then %d", first, now)
	}
	for _, name := range []string{"forge", "stranger", "sql"} {
		h.Do("down", name)
	}
}
