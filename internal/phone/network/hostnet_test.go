package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/finding"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/netd"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
	"github.com/sovereign-sql/sov/internal/testkit/repeat"
)

func sql(routing Routing) VM {
	return VM{Name: "sql", TAP: "vm_sql", Host: netip.MustParsePrefix("192.168.100.1/24"), Guest: netip.MustParsePrefix("192.168.100.2/24"),
		MTU: 1500, Routing: routing, Publish: []Port{{Port: 5432, Forward: true}}}
}

func other(routing Routing) VM {
	return VM{Name: "other", TAP: "vm_other", Host: netip.MustParsePrefix("192.168.101.1/24"), Guest: netip.MustParsePrefix("192.168.101.2/24"),
		MTU: 1400, Routing: routing, Peers: []Peer{peerOf(sql(routing))}}
}

// peerOf returns a machine as a peer of another one.
func peerOf(vm VM) Peer { return Peer{TAP: vm.TAP, Guest: vm.Guest, Publish: vm.Publish} }

func (p *phone) up(vm VM) Report {
	p.Helper()
	report, err := p.host().Up(context.Background(), vm)
	if err != nil {
		p.Fatal(err)
	}
	return report
}

func (p *phone) down(name string) Report {
	p.Helper()
	report, err := p.host().Down(context.Background(), name)
	if err != nil {
		p.Fatal(err)
	}
	return report
}

// findings returns the findings of Check without the missing carrier, since no machine runs in
// these tests.
func (p *phone) findings(vm VM) []finding.Finding {
	p.Helper()
	_, findings, err := p.host().Check(vm)
	if err != nil {
		p.Fatal(err)
	}
	return slices.DeleteFunc(findings, func(f finding.Finding) bool { return strings.Contains(f.Found, "no carrier") })
}

func (p *phone) whole(vm VM) {
	p.Helper()
	for _, f := range p.findings(vm) {
		p.Errorf("%s: %s (%s)", f.Check, f.Found, f.Cause)
	}
}

// inEach runs a test in a new namespace for both flavours of iptables and both routing modes, in an
// endurance run for their four combinations.
func inEach(t *testing.T, test func(p *phone, routing Routing)) {
	for i, flavour := range flavours {
		for j, routing := range []Routing{MainFirst, Scoped} {
			if i != j && !repeat.Whole() {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", flavour, routing), func(t *testing.T) {
				t.Parallel()
				test(newPhone(t, flavour), routing)
			})
		}
	}
}

func TestUpAndDown(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		before := p.snapshot()
		if report := p.down("sql"); len(report.Changed) > 0 {
			p.Errorf("down with nothing up changed %v", report.Changed)
		}
		report := p.up(sql(routing))
		if report.Uplink.Interface != "wlan0" || report.Uplink.Table != 1010 || report.Uplink.Gateway.String() != "192.168.1.1" {
			p.Errorf("uplink %v", report.Uplink)
		}
		p.whole(sql(routing))
		up := p.snapshot()
		for range 9 {
			if report := p.up(sql(routing)); len(report.Changed) > 0 {
				p.Errorf("another up changed %v", report.Changed)
			}
		}
		p.same("after ten times up", up, p.snapshot())
		p.down("sql")
		p.same("after down", before, p.snapshot())
		p.down("sql")
		p.same("after down twice", before, p.snapshot())
	})
}

func TestRulesAreThoseDocumented(t *testing.T) {
	for routing, want := range map[Routing]string{
		MainFirst: "1:\tfrom all lookup main proto 115\n",
		Scoped:    "1:\tfrom all to 192.168.100.0/24 lookup main proto 116\n2:\tfrom all iif vm_sql lookup 1010 proto 116\n",
	} {
		t.Run(string(routing), func(t *testing.T) {
			p := newPhone(t, flavours[0])
			p.up(sql(routing))
			got := p.sh("ip rule | grep -E '^[12]:'")
			got = strings.NewReplacer(" [detached]", "", " \n", "\n").Replace(got)
			if got != want {
				t.Errorf("rules:\n%swant:\n%s", got, want)
			}
			routes := p.sh("ip route show table main default")
			if (routing == MainFirst) != strings.Contains(routes, "via 192.168.1.1 dev wlan0") {
				t.Errorf("default routes in main: %q", routes)
			}
		})
	}
}

// TestExistingResourcesStay: resources that existed before stay, even if they are equal to ours.
func TestExistingResourcesStay(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		p.sh(`ip rule add pref 1 lookup main; ip route add default via 192.168.1.1 dev wlan0 onlink
			ip rule add pref 1 to 192.168.100.0/24 lookup main; echo 1 >/proc/sys/net/ipv4/ip_forward`)
		before := p.snapshot()
		p.up(sql(routing))
		p.up(sql(routing))
		p.whole(sql(routing))
		p.down("sql")
		p.same("after down", before, p.snapshot())
	})
}

// TestChangedSysctlStays: a value that another program has set later is not restored.
func TestChangedSysctlStays(t *testing.T) {
	p := newPhone(t, flavours[0])
	p.up(sql(MainFirst))
	p.sh("echo 2 >/proc/sys/net/ipv4/conf/all/rp_filter")
	p.down("sql")
	if got := strings.TrimSpace(p.sh("cat /proc/sys/net/ipv4/conf/all/rp_filter")); got != "2" {
		t.Errorf("all.rp_filter is %s", got)
	}
}

func TestTwoMachines(t *testing.T) {
	for _, first := range []string{"sql", "other"} {
		t.Run(first+" goes first", func(t *testing.T) {
			inEach(t, func(p *phone, routing Routing) {
				a, b := sql(routing), other(routing)
				a.Peers = []Peer{peerOf(b)}
				before := p.snapshot()
				p.up(a)
				alone := p.snapshot()
				p.up(b)
				p.up(a)
				p.whole(a)
				p.whole(b)
				both := p.snapshot()
				p.up(b)
				p.same("up again", both, p.snapshot())
				if first == "other" {
					p.down("other")
					p.same("one of two down", alone, p.snapshot())
					p.whole(a)
					p.down("sql")
				} else {
					p.down("sql")
					p.whole(b)
					p.down("other")
				}
				p.same("both down", before, p.snapshot())
			})
		})
	}
}

// breakages are changes of the network by other programs. Check must name the layer, and Up must
// repair it.
var breakages = []struct {
	name, script string
	only         Routing
	layer        string
}{
	{"TAP deleted", "ip link del vm_sql", "", LayerTAP},
	{"TAP down", "ip link set vm_sql down", "", LayerTAP},
	{"address removed", "ip addr flush dev vm_sql", "", LayerTAP},
	{"MTU changed", "ip link set vm_sql mtu 1300", "", LayerTAP},
	{"rule deleted", "ip rule del pref 1", "", LayerRouting},
	{"second rule deleted", "ip rule del pref 2", Scoped, LayerRouting},
	{"default route deleted", "ip route del default", MainFirst, LayerRouting},
	{"forwarding off", "echo 0 >/proc/sys/net/ipv4/ip_forward", "", LayerForwarding},
	{"rp_filter on", "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter", "", LayerForwarding},
	{"chain flushed", "$IPTABLES -F sov_sql_fwd", "", LayerForwarding},
	{"chain edited", "$IPTABLES -D sov_sql_fwd 1", "", LayerForwarding},
	{"FORWARD flushed", "$IPTABLES -F FORWARD", "", LayerForwarding},
	{"rule above ours", "$IPTABLES -I FORWARD 1 -j tetherctrl_FORWARD", "", LayerForwarding},
	{"jump twice", "$IPTABLES -A FORWARD -j sov_sql_fwd", "", LayerForwarding},
	{"NAT chain flushed", "$IPTABLES -t nat -F sov_sql_post", "", LayerForwarding},
	{"everything in nat gone", "$IPTABLES -t nat -F; $IPTABLES -t nat -X", "", LayerForwarding},
}

func TestCheckFindsAndUpRepairs(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		p.up(sql(routing))
		for _, b := range breakages {
			if b.only != "" && b.only != routing {
				continue
			}
			p.sh(b.script)
			findings := p.findings(sql(routing))
			if len(findings) == 0 || findings[0].Check != b.layer || !findings[0].Fixable {
				p.Errorf("%s: found %+v", b.name, findings)
			}
			p.up(sql(routing))
			p.whole(sql(routing))
			if report := p.up(sql(routing)); len(report.Changed) > 0 {
				p.Errorf("%s: a second up changed %v", b.name, report.Changed)
			}
		}
	})
}

func TestUplinkChanges(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		before := p.snapshot()
		p.up(sql(routing))
		one := p.snapshot()
		p.net.SetDefault("rmnet0")
		if report := p.up(sql(routing)); !report.Uplink.same(Uplink{Interface: "rmnet0", Table: 1011}) {
			p.Errorf("uplink %v", report.Uplink)
		}
		p.whole(sql(routing))
		if strings.Contains(p.sh("ip rule; ip route show table main; $IPTABLES -S; $IPTABLES -t nat -S | grep sov_"), "-o wlan0") {
			p.Error("something of the old uplink is left")
		}
		p.net.SetDefault()
		if report := p.up(sql(routing)); report.Uplink != (Uplink{}) {
			p.Errorf("uplink %v, want none", report.Uplink)
		}
		if _, err := p.host().Uplink(); !errors.Is(err, ErrNoUplink) {
			p.Errorf("got %v, want %v", err, ErrNoUplink)
		}
		p.net.SetDefault("wlan0")
		p.up(sql(routing))
		p.same("back on the first uplink", one, p.snapshot())
		p.sh("ip route replace default via 192.168.1.254 dev wlan0 table 1010")
		if report := p.up(sql(routing)); report.Uplink.Gateway.String() != "192.168.1.254" {
			p.Errorf("uplink %v", report.Uplink)
		}
		p.whole(sql(routing))
		p.sh("ip route replace default via 192.168.1.1 dev wlan0 table 1010 proto static")
		p.down("sql")
		p.same("after down", before, p.snapshot())
	})
}

// TestVPNIsNotTheUplink: a VPN app's rules precede those of the default network and name another
// table. The uplink is still the network that carries the VPN.
func TestVPNIsNotTheUplink(t *testing.T) {
	p := newPhone(t, flavours[0])
	p.net.StartVPN(netd.VPN{Name: "tun0"})
	if report := p.up(sql(Scoped)); report.Uplink.Interface != "wlan0" {
		t.Errorf("uplink %v", report.Uplink)
	}
	named := sql(Scoped)
	named.Uplink = "rmnet0"
	if report := p.up(named); !report.Uplink.same(Uplink{Interface: "rmnet0", Table: 1011}) {
		t.Errorf("uplink %v, want the one named", report.Uplink)
	}
}

func TestFollow(t *testing.T) {
	for _, routing := range []Routing{MainFirst, Scoped} {
		t.Run(string(routing), func(t *testing.T) {
			p := newPhone(t, flavours[0])
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			// One change after each report. Follow must run on this thread, which is in the
			// namespace.
			sh := func(script string) func() { return func() { p.sh(script) } }
			rounds := []struct {
				change func()
				want   string
			}{
				{sh("echo 0 >/proc/sys/net/ipv4/ip_forward"), "wlan0"},
				{sh("echo 2 >/proc/sys/net/ipv4/conf/all/rp_filter"), "wlan0"},
				{sh("ip rule del pref 1"), "wlan0"},
				{func() { p.net.SetDefault("rmnet0") }, "rmnet0"},
				{sh("ip link set rmnet0 down"), ""},
				{sh("ip link set rmnet0 up; ip route add default dev rmnet0 table 1011"), "rmnet0"},
				{sh("ip link del vm_sql"), "rmnet0"},
				{func() { p.net.SetDefault("wlan0") }, "wlan0"},
			}
			var since time.Time
			want := "wlan0"
			late := time.AfterFunc(2*time.Minute, cancel)
			defer late.Stop()
			h := p.host()
			h.poll = time.Hour // only the kernel's reports may find changes
			h.Follow(ctx, func() VM { return sql(routing) }, func(r Report, err error) {
				if err != nil {
					t.Errorf("follow: %v", err)
				}
				if r.Uplink.Interface != want {
					return // netd has not finished
				}
				if !since.IsZero() {
					t.Logf("%s after %v", r.Uplink, time.Since(since).Round(time.Millisecond))
				}
				if want != "" {
					p.whole(sql(routing))
				}
				if len(rounds) == 0 {
					cancel()
					return
				}
				rounds[0].change()
				want, since = rounds[0].want, time.Now()
				rounds = rounds[1:]
			})
			if len(rounds) > 0 {
				t.Errorf("ended with %d rounds to go", len(rounds))
			}
		})
	}
}

// TestSlowPoll: if the kernel reports nothing, from the start or later, the slow poll finds
// changes.
func TestSlowPoll(t *testing.T) {
	for name, watch := range map[string]func(context.Context) (<-chan struct{}, error){
		"no reports": func(context.Context) (<-chan struct{}, error) { return nil, errors.New("not permitted") },
		"reports end": func(context.Context) (<-chan struct{}, error) {
			ended := make(chan struct{})
			close(ended)
			return ended, nil
		},
		"reports are lost": func(context.Context) (<-chan struct{}, error) { return make(chan struct{}), nil },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPhone(t, flavours[0])
			h := p.host()
			h.watch, h.poll = watch, 20*time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			changes := []func(){func() { p.net.SetDefault("rmnet0") }, func() { p.sh("$IPTABLES -F sov_sql_fwd") }, func() { p.sh("ip link set vm_sql down") }}
			h.Follow(ctx, func() VM { return sql(MainFirst) }, func(_ Report, err error) {
				if err != nil {
					t.Error(err)
				}
				p.whole(sql(MainFirst))
				if len(changes) == 0 {
					cancel()
					return
				}
				changes[0]()
				changes = changes[1:]
			})
			if len(changes) > 0 {
				t.Errorf("ended with %d changes not found", len(changes))
			}
		})
	}
}

// TestCarrier: a TAP interface that was only set down is still open in its process.
func TestCarrier(t *testing.T) {
	p := newPhone(t, flavours[0])
	if report := p.up(sql(MainFirst)); report.Carrier {
		t.Error("a carrier, but no process has the interface open")
	}
	tap, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	request, err := unix.NewIfreq("vm_sql")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(int(tap.Fd()), unix.TUNSETIFF, request); err != nil {
		t.Fatalf("open it as crosvm does: %v", err)
	}
	p.sh("ip link set vm_sql down")
	for range 2 {
		if report := p.up(sql(MainFirst)); !report.Carrier {
			t.Errorf("no carrier, after %v", report.Changed)
		}
	}
}

// TestKilledAtEveryStep: a process is killed at any point. The next up or down repairs the state.
func TestKilledAtEveryStep(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		before := p.snapshot()
		p.up(sql(routing))
		up := p.snapshot()
		p.down("sql")
		steps := 0
		for {
			steps++
			if !p.dies("up", routing, steps) {
				break
			}
			if steps%2 == 0 {
				p.down("sql")
				p.same(fmt.Sprintf("down after an up killed at step %d", steps), before, p.snapshot())
				continue
			}
			p.up(sql(routing))
			p.same(fmt.Sprintf("up after an up killed at step %d", steps), up, p.snapshot())
			p.down("sql")
			p.same(fmt.Sprintf("down after that, step %d", steps), before, p.snapshot())
		}
		if steps < 15 {
			p.Errorf("only %d steps: the child did not die where it should", steps)
		}
		for step := 1; ; step++ {
			p.up(sql(routing))
			died := p.dies("down", routing, step)
			if !died {
				break
			}
			if step%2 == 0 {
				p.up(sql(routing))
				p.same(fmt.Sprintf("up after a down killed at step %d", step), up, p.snapshot())
			}
			p.down("sql")
			p.same(fmt.Sprintf("down after a down killed at step %d", step), before, p.snapshot())
		}
	})
}

// dies runs an up or down in a child process, which kills itself at a step. It reports whether the
// child reached the step.
func (p *phone) dies(verb string, routing Routing, step int) bool {
	p.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestChild$")
	child.Env = append(os.Environ(), "HOSTNET_CHILD="+verb, "HOSTNET_STEP="+strconv.Itoa(step), "HOSTNET_LEDGER="+p.ledger(),
		"HOSTNET_IPTABLES="+p.iptables, "HOSTNET_ROUTING="+string(routing))
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	if err == nil {
		return false
	}
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		p.Fatalf("child: %v: %s", err, out)
	}
	return true
}

// TestChild is not a test: it is the process that TestKilledAtEveryStep kills.
func TestChild(t *testing.T) {
	verb := os.Getenv("HOSTNET_CHILD")
	if verb == "" {
		return
	}
	h, err := Open(Options{Ledger: os.Getenv("HOSTNET_LEDGER"), IPTables: os.Getenv("HOSTNET_IPTABLES")})
	if err != nil {
		t.Fatal(err)
	}
	left, err := strconv.Atoi(os.Getenv("HOSTNET_STEP"))
	if err != nil {
		t.Fatal(err)
	}
	h.step = func(string) {
		if left--; left == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	if verb == "up" {
		_, err = h.Up(t.Context(), sql(Routing(os.Getenv("HOSTNET_ROUTING"))))
	} else {
		_, err = h.Down(t.Context(), "sql")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestForeignInterface(t *testing.T) {
	p := newPhone(t, flavours[0])
	p.sh("ip link add vm_sql type veth peer name vm_peer")
	before := p.sh("ip link show vm_sql")
	if _, err := p.host().Up(t.Context(), sql(MainFirst)); err == nil || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("got %v", err)
	}
	p.down("sql")
	if after := p.sh("ip link show vm_sql"); after != before {
		t.Errorf("the foreign interface changed:\n%s%s", before, after)
	}
}

// TestForeignInterfaceInItsPlace: an interface of another program that has replaced sov's is not
// removed.
func TestForeignInterfaceInItsPlace(t *testing.T) {
	p := newPhone(t, flavours[0])
	p.up(sql(MainFirst))
	p.sh("ip link del vm_sql; ip link add vm_sql type veth peer name vm_peer; ip addr add 10.1.2.3/24 dev vm_sql")
	if findings := p.findings(sql(MainFirst)); len(findings) == 0 || findings[0].Check != LayerTAP || findings[0].Fixable {
		t.Errorf("found %+v", findings)
	}
	p.down("sql")
	if !strings.Contains(p.sh("ip addr show vm_sql"), "10.1.2.3/24") {
		t.Error("down removed it")
	}
}

// TestClash: two machines cannot have the same subnet. A network of the phone with a machine's
// addresses is reported.
func TestClash(t *testing.T) {
	p := newPhone(t, flavours[0])
	p.up(sql(MainFirst))
	twin := other(MainFirst)
	twin.Host, twin.Guest = sql(MainFirst).Host, sql(MainFirst).Guest
	before := p.snapshot()
	if _, err := p.host().Up(t.Context(), twin); err == nil || !strings.Contains(err.Error(), "192.168.100.0/24 is the subnet of the machine sql") {
		t.Errorf("got %v", err)
	}
	p.same("after an up that was refused", before, p.snapshot())
	renamed := sql(MainFirst)
	renamed.TAP = "vm_new" // as a new version's name may be
	p.up(renamed)
	p.whole(renamed)
	p.up(sql(MainFirst))
	p.same("renamed and back", before, p.snapshot())
	p.sh("ip addr add 192.168.100.77/24 dev wlan0")
	p.up(sql(MainFirst))
	findings := p.findings(sql(MainFirst))
	if len(findings) != 1 || findings[0].Check != LayerTAP || findings[0].Fixable || !strings.Contains(findings[0].Found, "wlan0 has an address in 192.168.100.0/24") {
		t.Errorf("found %+v", findings)
	}
	p.down("sql")
}

func TestDamagedLedger(t *testing.T) {
	for name, text := range map[string]string{"cut off": `{"format":1,"ent`, "empty": "", "hostile": `{"format":1,"boot_id":"x","entries":[{"kind":"sysctl","path":"../../etc/passwd","value":"1","owners":["sql"]}]}`} {
		t.Run(name, func(t *testing.T) {
			p := newPhone(t, flavours[0])
			p.up(sql(MainFirst))
			up := p.snapshot()
			if err := os.WriteFile(p.ledger(), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			p.up(sql(MainFirst))
			p.same("up with a damaged ledger", up, p.snapshot())
			if _, err := os.Stat(p.ledger() + ".damaged"); err != nil {
				t.Error(err)
			}
			p.down("sql")
			left := p.sh("ip -br link; $IPTABLES-save")
			if strings.Contains(left, "vm_sql") || strings.Contains(left, "sov_") {
				t.Errorf("down left what carries our name:\n%s", left)
			}
		})
	}
}

func TestLedgerOfAnotherBoot(t *testing.T) {
	p := newPhone(t, flavours[0])
	p.up(sql(MainFirst))
	text, err := os.ReadFile(p.ledger())
	if err != nil {
		t.Fatal(err)
	}
	h := p.host()
	text = []byte(strings.ReplaceAll(string(text), h.bootID, "00000000-0000-0000-0000-000000000000"))
	if err := os.WriteFile(p.ledger(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	p.sh("ip rule del pref 1; ip rule add pref 1 lookup main") // a rule of another program, after the reboot
	p.down("sql")
	if !strings.Contains(p.sh("ip rule"), "1:\tfrom all lookup main") {
		t.Error("down removed a rule that an earlier boot's ledger told of")
	}
}

// TestUnwritableLedger: if the ledger cannot be written, nothing is changed.
func TestUnwritableLedger(t *testing.T) {
	p := newPhone(t, flavours[0])
	p.dir = filepath.Join(p.dir, "absent")
	before := p.snapshot()
	if _, err := p.host().Up(t.Context(), sql(MainFirst)); err == nil {
		t.Error("up without a ledger went through")
	}
	p.same("after an up that failed", before, p.snapshot())
}

func TestRefusals(t *testing.T) {
	for want, change := range map[string]func(*VM){
		"not the name of a machine":    func(vm *VM) { vm.Name = "../x" },
		"not the name of an interface": func(vm *VM) { vm.TAP = "a b" },
		"not two IPv4 addresses":       func(vm *VM) { vm.Guest = netip.MustParsePrefix("10.0.0.2/24") },
		"MTU":                          func(vm *VM) { vm.MTU = 5 },
		"is not auto":                  func(vm *VM) { vm.Routing = "all" },
		"port 0":                       func(vm *VM) { vm.Publish = []Port{{}} },
	} {
		vm := sql(MainFirst)
		change(&vm)
		if err := vm.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something about %q", err, want)
		}
	}
}

func TestChainNamesFit(t *testing.T) {
	for _, name := range []string{"sql", strings.Repeat("a", 32)} {
		for _, purpose := range []string{"fwd", "post", "pre"} {
			if got := chainName(name, purpose); len(got) > maxChain || !isOurChain(got) {
				t.Errorf("%s has %d characters", got, len(got))
			}
		}
	}
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte(`{"format":1,"boot_id":"b","entries":[{"kind":"rule","priority":1,"table":254,"owners":["sql"]}],"uplinks":{"sql":{"interface":"wlan0","table":1010,"gateway":"192.168.1.1"}}}`))
	f.Add([]byte(`{"format":1,"entries":[{"kind":"chain","ip_table":"nat","from":"POSTROUTING","chain":"sov_sql_post","owners":["sql"]}]}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		defer costtest.Text.Watch(t, len(src))()
		l, err := decodeLedger(src)
		if err != nil {
			return
		}
		for _, e := range l.Entries {
			s, isSysctl := e.resource.(sysctl)
			c, isChain := e.resource.(chain)
			if isSysctl && !filepath.IsLocal(s.Path) || isChain && !isOurChain(c.Name) {
				t.Errorf("would undo %s", e.resource)
			}
		}
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeLedger(text); err != nil || !reflect.DeepEqual(again, l) {
			t.Errorf("%s is read as %+v, %v, and was %+v", text, again, err, l)
		}
	})
}

// BenchmarkUp measures an up without changes and an up with a down, and the same with the commands
// of a script.
func BenchmarkUp(b *testing.B) {
	b.Run("nothing to do", func(b *testing.B) {
		benchmark(b, func(b *testing.B, h *Host) {
			if _, err := h.Up(context.Background(), sql(MainFirst)); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("up and down", func(b *testing.B) {
		benchmark(b, func(b *testing.B, h *Host) {
			if _, err := h.Up(context.Background(), sql(MainFirst)); err != nil {
				b.Fatal(err)
			}
			if _, err := h.Down(context.Background(), "sql"); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("up and down by a script", func(b *testing.B) {
		const script = `ip tuntap add vm_sql mode tap; ip addr add 192.168.100.1/24 dev vm_sql; ip link set vm_sql up
			sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0
			ip rule add pref 1 lookup main; ip route add default via 192.168.1.1 dev wlan0 onlink
			$I -I FORWARD -i vm_sql -j ACCEPT; $I -I FORWARD -o vm_sql -j ACCEPT; $I -t nat -I POSTROUTING -s 192.168.100.0/24 -j MASQUERADE
			$I -D FORWARD -i vm_sql -j ACCEPT; $I -D FORWARD -o vm_sql -j ACCEPT; $I -t nat -D POSTROUTING -s 192.168.100.0/24 -j MASQUERADE
			ip rule del pref 1; ip route del default; ip link del vm_sql`
		benchmark(b, func(b *testing.B, h *Host) {
			if out, err := exec.Command("sh", "-ec", strings.ReplaceAll(script, "$I", h.tables.program+" -w")).CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		})
	})
}

func benchmark(b *testing.B, once func(*testing.B, *Host)) {
	h := newPhone(b, flavours[0]).host() // locked to this benchmark's goroutine, as is its namespace
	for b.Loop() {
		once(b, h)
	}
}

// TestForwardedUDP: a UDP port is forwarded to the guest, also if its number on the host differs.
func TestForwardedUDP(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(flavour, func(t *testing.T) {
			p := newPhone(t, flavour)
			vm := sql(Scoped)
			vm.Publish = []Port{{Port: 53, UDP: true, Host: 5353, Forward: true}, {Port: 80, Host: 8080, Forward: true}, {Port: 22}}
			p.up(vm)
			p.whole(vm)
			all := p.sh("$IPTABLES -t nat -S sov_sql_pre; $IPTABLES -S sov_sql_fwd")
			for _, want := range []string{
				"-p udp -m udp --dport 5353 -m addrtype --dst-type LOCAL -j DNAT --to-destination 192.168.100.2:53",
				"-p tcp -m tcp --dport 8080 -m addrtype --dst-type LOCAL -j DNAT --to-destination 192.168.100.2:80",
				"-p udp -m udp --dport 53 -m conntrack --ctstate DNAT -j ACCEPT",
			} {
				if !strings.Contains(all, want) {
					p.Errorf("no rule %s in\n%s", want, all)
				}
			}
			if strings.Contains(all, "--dport 22 ") {
				p.Errorf("a port that is not forwarded is led to the guest:\n%s", all)
			}
			p.down("sql")
		})
	}
}
