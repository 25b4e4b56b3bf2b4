package phonetest

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/netd"
)

// A Make is a kind of phone: a release with its crosvm, a hypervisor, a root manager and the netd
// of a family, in a network scene.
type Make struct {
	Release    crosvmcli.Release
	Hypervisor androidtest.Hypervisor
	Superuser  androidtest.Superuser
	Lineage    bool
	Scene      netd.Scene
}

func (m Make) family() string {
	if m.Lineage {
		return "LineageOS"
	}
	return "AOSP"
}

func (m Make) String() string {
	return fmt.Sprintf("%s %s, %s, %s, %s", m.family(), m.Release, m.Hypervisor, m.Superuser, m.Scene.Name)
}

// The values of each property of a Make.
var (
	hypervisors = []androidtest.Hypervisor{androidtest.KVM, androidtest.Gunyah, androidtest.GenieZone}
	superusers  = []androidtest.Superuser{androidtest.Magisk, androidtest.KernelSU, androidtest.APatch, androidtest.AOSP}
	families    = []bool{false, true}
)

// properties is the number of properties of a Make; values returns the number of values of each.
const properties = 5

func values() [properties]int {
	return [properties]int{len(crosvmcli.Releases), len(hypervisors), len(superusers), len(families), len(netd.Scenes)}
}

func makeOf(v [properties]int) Make {
	return Make{crosvmcli.Releases[v[0]], hypervisors[v[1]], superusers[v[2]], families[v[3]], netd.Scenes[v[4]]}
}

// exists reports whether such a phone exists. -1 is a value that is not chosen yet. The crosvm of
// Android 13 supports only KVM.
func exists(v [properties]int) bool { return v[0] != 0 || v[1] <= 0 }

// A pair is two values of two properties.
type pair struct{ one, two, oneValue, twoValue int }

// Cover returns makes that together have every pair of values of two properties that a phone can
// have. The result is always the same.
func Cover() []Make {
	sizes := values()
	left := map[pair]bool{}
	var order []pair
	for one := range properties {
		for two := one + 1; two < properties; two++ {
			for a := range sizes[one] {
				for b := range sizes[two] {
					v := open()
					v[one], v[two] = a, b
					if exists(v) {
						left[pair{one, two, a, b}] = true
						order = append(order, pair{one, two, a, b})
					}
				}
			}
		}
	}
	var out []Make
	for _, p := range order {
		if !left[p] {
			continue
		}
		v := open()
		v[p.one], v[p.two] = p.oneValue, p.twoValue
		for i := range properties {
			if v[i] < 0 {
				v[i] = bestValue(v, i, sizes[i], len(out), left)
			}
		}
		for _, q := range pairsOf(v) {
			delete(left, q)
		}
		out = append(out, makeOf(v))
	}
	return out
}

// open returns an array in which every property is still to be chosen.
func open() [properties]int { return [properties]int{-1, -1, -1, -1, -1} }

// bestValue returns the value of property i that, with the chosen values, adds the most pairs in
// left. It starts at a different value at each turn, and so distributes ties.
func bestValue(v [properties]int, i, size, turn int, left map[pair]bool) int {
	best, most := 0, -1
	for n := range size {
		value := (n + turn) % size
		v[i] = value
		if !exists(v) {
			continue
		}
		added := 0
		for _, q := range pairsOf(v) {
			if left[q] && (q.one == i || q.two == i) {
				added++
			}
		}
		if added > most {
			best, most = value, added
		}
	}
	return best
}

func pairsOf(v [properties]int) []pair {
	var out []pair
	for one := range properties {
		for two := one + 1; two < properties; two++ {
			if v[one] >= 0 && v[two] >= 0 {
				out = append(out, pair{one, two, v[one], v[two]})
			}
		}
	}
	return out
}

// options returns the options of the simulated phone.
func (m Make) options(t testing.TB) androidtest.Options {
	o, err := androidtest.OptionsOf(m.Release, m.Hypervisor, m.family())
	if err != nil {
		t.Fatal(err)
	}
	o.InMemory, o.Superuser = true, m.Superuser
	return o
}

// asRoot runs sov-runner with the phone's su, in the syntax of its root manager.
func (h *Handset) asRoot(m Make, args ...string) {
	h.T.Helper()
	words := append([]string{phonepath.Default.Runner()}, args...)
	if m.Superuser == androidtest.AOSP {
		words = append([]string{"0"}, words...)
	} else {
		words = []string{"-c", strings.Join(words, " ")}
	}
	if out, said, status := h.Su(words...); status != 0 {
		h.T.Fatalf("%s: su %s: exit status %d\n%s%s\n%s", m, strings.Join(words, " "), status, out, said, h.Logs())
	}
}

// Live runs a light machine on a phone, started and stopped with its su: SQL from outside, reboot
// of the guest, panic, kill, a crash of netd, the end of a hotspot, and another uplink. The phone
// must keep nothing of the machine afterwards.
func (m Make) Live(t *testing.T) {
	h := &Handset{Phone: androidtest.New(t, m.options(t)), T: t}
	h.VM = h.InstallLight("sql", vmspec.Auto, lightguest.Script{})
	memory := 64
	if m.Hypervisor == androidtest.Gunyah {
		memory = 4 // it is locked, and a container may lock at most 8 MiB
	}
	h.Put(phonepath.Default.Settings(), fmt.Sprintf(`{"crash_loop": 100, "shutdown_timeout": 5, "vms": {"sql": {"memory_mib": %d}}}`, memory), 0o644)
	h.ServeAddress()
	h.Net.ToScene(m.Scene)
	h.asRoot(m, "up", "sql")
	h.speaksPostgres(m)
	h.goesOut(m, "after the start", m.Scene)
	for _, step := range []struct {
		name string
		do   func(crosvm int)
		kind string
		more int // additional failures
	}{
		{"reboot", func(int) { h.End(lightguest.Reset) }, "reset", 0},
		{"panic", func(int) { h.End(lightguest.BarePanic) }, "panic", 1},
		{"kill", func(crosvm int) { h.Shell(fmt.Sprintf("kill -9 %d", crosvm)) }, "killed", 1},
	} {
		was := h.Status()
		step.do(was.Crosvm)
		h.Eventually(step.name, func() bool {
			s := h.Status()
			return s.Phase == runnerapi.Ready && s.Crosvm != 0 && s.Crosvm != was.Crosvm && s.LastExit.Kind == step.kind && s.Failures == was.Failures+step.more
		})
		h.speaksPostgres(m)
	}
	h.Net.Restart()
	h.Net.ToScene(m.Scene)
	h.goesOut(m, "after netd's crash", m.Scene)
	for _, tether := range m.Scene.Tethers {
		h.Net.StopTether(tether.Down)
		h.goesOut(m, "after the hotspot's end", m.Scene)
	}
	other := netd.Cellular
	if len(m.Scene.Default) > 0 && m.Scene.Default[0] != "wlan0" {
		other = netd.WiFi
	}
	h.Net.ToScene(other)
	h.goesOut(m, "by another uplink", other)
	h.speaksPostgres(m)
	h.asRoot(m, "down", "sql")
	if !strings.Contains(h.RunnerLog(), "the guest shut down in order") {
		t.Errorf("%s: the guest did not shut down in order:\n%s", m, h.RunnerLog())
	}
	left := h.Shell("ip rule; ip -6 rule; ip -brief link; /system/bin/iptables-save; /system/bin/ip6tables-save")
	for _, ours := range []string{"sov_", "vm_sql", "proto 11", "192.168.100."} {
		if strings.Contains(left, ours) {
			t.Errorf("%s: %s is left after down:\n%s", m, ours, left)
		}
	}
}

// goesOut waits until the server in the internet sees the guest at the address of a scene's uplink.
// Without an uplink, it must not see the guest.
func (h *Handset) goesOut(m Make, when string, s netd.Scene) {
	h.T.Helper()
	want := uplinkAddress(s)
	if want == "" {
		h.speaksPostgres(m) // wait for the route to the guest, which netd's restart removes
		if got := h.GoOut(); got != "" {
			h.T.Errorf("%s: %s, without an uplink, the guest is seen as %q", m, when, got)
		}
		return
	}
	h.Eventually(m.String()+": seen as "+want+" "+when, func() bool {
		got, err := h.goOut()
		return err == nil && got == want
	})
}

// speaksPostgres waits until the guest's database answers, from the phone's network, in
// PostgreSQL's protocol.
func (h *Handset) speaksPostgres(m Make) {
	h.T.Helper()
	h.Eventually(m.String()+": answered by the database", func() bool {
		conn, err := h.Dial(h.T.Context(), "tcp", net.JoinHostPort(guestAddress, strconv.Itoa(lightguest.PostgresPort)))
		if err != nil {
			return false
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		// SSLRequest (PostgreSQL's documentation, "Message Formats"): every server answers with one
		// byte.
		if _, err := conn.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}); err != nil {
			return false
		}
		answer := make([]byte, 1)
		_, err = io.ReadFull(conn, answer)
		return err == nil && (answer[0] == 'N' || answer[0] == 'S')
	})
}
