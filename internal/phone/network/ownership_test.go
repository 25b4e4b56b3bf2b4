package network

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/repeat"
)

// TestMachinesInDifferentModes: when the kernel looks for equal rules, it treats a rule without a
// destination as equal to a rule with any destination. "from all" and "from all to SUBNET" must not
// block each other, and removing one must not remove the other.
func TestMachinesInDifferentModes(t *testing.T) {
	for _, modes := range [][2]Routing{{Scoped, MainFirst}, {MainFirst, Scoped}} {
		for _, leaves := range []string{"sql", "other"} {
			t.Run(fmt.Sprintf("%s then %s, %s leaves", modes[0], modes[1], leaves), func(t *testing.T) {
				p := newPhone(t, flavours[0])
				before := p.snapshot()
				a, b := sql(modes[0]), other(modes[1])
				p.up(a)
				p.up(b)
				p.whole(a)
				p.whole(b)
				p.down(leaves)
				stays := map[string]VM{"sql": b, "other": a}[leaves]
				p.whole(stays)
				p.down(stays.Name)
				p.same("both down", before, p.snapshot())
			})
		}
	}
}

// TestForeignNeighboursStay: rules and routes that are similar to ours neither interfere nor are
// removed.
func TestForeignNeighboursStay(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		p.sh(`ip rule add pref 1 to 10.1.0.0/16 lookup main; ip rule add pref 1 fwmark 0x7 lookup main
			ip rule add pref 2 iif rmnet0 lookup 1010
			ip route add default via 192.168.1.77 dev wlan0; ip route add default via 192.168.1.1 dev wlan0 metric 600`)
		before := p.snapshot()
		p.up(sql(routing))
		p.whole(sql(routing))
		p.sh("ip rule del pref 1 lookup main proto 115 2>/dev/null || ip rule del pref 1 proto 116")
		p.down("sql")
		p.same("after down, one of ours gone already", before, p.snapshot())
		p.up(sql(routing))
		p.down("sql")
		p.same("after down", before, p.snapshot())
	})
}

// TestFoundAndLost: a resource that existed and was then removed by its owner is ours once Up
// re-creates it.
func TestFoundAndLost(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		before := p.snapshot()
		p.sh(`ip rule add pref 1 lookup main; ip rule add pref 1 to 192.168.100.0/24 lookup main proto 99
			ip route add default via 192.168.1.1 dev wlan0 onlink; echo 1 >/proc/sys/net/ipv4/ip_forward`)
		p.up(sql(routing))
		p.sh(`ip rule del pref 1 to 192.168.100.0/24 proto 99; ip rule del pref 1 lookup main
			ip route del default; echo 0 >/proc/sys/net/ipv4/ip_forward`)
		p.up(sql(routing))
		p.whole(sql(routing))
		p.down("sql")
		p.same("after down", before, p.snapshot())
	})
}

// TestUplinkChangesUnderTwoMachines: a machine follows a new uplink, even if a machine whose daemon
// does not run still owns the old default route.
func TestUplinkChangesUnderTwoMachines(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		before := p.snapshot()
		a, b := sql(routing), other(routing)
		p.up(a)
		p.up(b)
		p.net.SetDefault("rmnet0")
		p.up(a)
		p.whole(a)
		p.net.SetDefault("wlan0")
		p.up(a)
		p.whole(a)
		p.whole(b)
		p.net.SetDefault("rmnet0")
		p.up(b)
		p.up(a)
		p.whole(a)
		p.whole(b)
		p.net.SetDefault("wlan0")
		p.down("sql")
		p.down("other")
		p.same("after down", before, p.snapshot())
	})
}

// TestDownWithoutTheLedger: without its ledger, a machine still finds resources by their marks.
// Only the old values of the sysctls are lost.
func TestDownWithoutTheLedger(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		p.sh("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter")
		before := p.snapshot()
		lose := map[string]func() error{
			"removed": func() error { return os.Remove(p.ledger()) },
			"damaged": func() error { return os.WriteFile(p.ledger(), []byte("{"), 0o600) },
		}
		for how, lose := range lose {
			p.up(sql(routing))
			if err := lose(); err != nil {
				p.Fatal(err)
			}
			p.down("sql")
			p.same("down, ledger "+how, before, p.snapshot())
			p.up(sql(routing))
			p.up(other(routing))
			if err := lose(); err != nil {
				p.Fatal(err)
			}
			p.down("sql")
			p.whole(other(routing))
			p.up(other(routing))
			p.down("other")
			p.same("both down, ledger "+how, before, p.snapshot())
		}
	})
}

func TestLongNames(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		before := p.snapshot()
		a, b := sql(routing), other(routing)
		a.Name, b.Name = strings.Repeat("a", 31)+"1", strings.Repeat("a", 31)+"2"
		a.TAP, b.TAP = "vm_aaaaaaaaaaa1", "vm_aaaaaaaaaaa2"
		p.up(a)
		p.up(b)
		p.whole(a)
		p.whole(b)
		p.down(a.Name)
		p.whole(b)
		p.down(b.Name)
		p.same("after down", before, p.snapshot())
	})
}

// smallDisk mounts a file system of a few pages on the ledger's folder. Only this thread sees it.
func (p *phone) smallDisk() (mount func(options string)) {
	p.Helper()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		p.Fatal(err)
	}
	p.sh("mount --make-rprivate /; mount -t tmpfs -o size=64k none " + p.dir)
	dir := p.dir
	p.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			p.Errorf("umount %s: %v: %s", dir, err, out)
		}
	})
	return func(options string) { p.sh("mount -o remount," + options + " " + dir) }
}

// TestReadOnlyDisk: if the ledger cannot be written, nothing is changed, and the error is reported.
func TestReadOnlyDisk(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		remount := p.smallDisk()
		before := p.snapshot()
		remount("ro")
		_, err := p.host().Up(p.Context(), sql(routing))
		if err == nil || !strings.Contains(err.Error(), "ledger") || !strings.Contains(err.Error(), "read-only") {
			p.Errorf("up: %v", err)
		}
		p.same("after an up that failed", before, p.snapshot())
		if len(p.findings(sql(routing))) == 0 {
			p.Error("check found nothing wrong")
		}
		remount("rw")
		p.up(sql(routing))
		up := p.snapshot()
		remount("ro")
		p.whole(sql(routing))
		if _, err := p.host().Down(p.Context(), "sql"); err == nil {
			p.Error("down went through")
		}
		p.same("after a down that failed", up, p.snapshot())
		remount("rw")
		p.down("sql")
		p.same("after down", before, p.snapshot())
	})
}

// TestFullDisk: on a full disk Up changes nothing. Down needs no space to remove resources. It only
// cannot record that, which a later Down does.
func TestFullDisk(t *testing.T) {
	inEach(t, func(p *phone, routing Routing) {
		p.smallDisk()
		before := p.snapshot()
		full := p.dir + "/full"
		fill := func() {
			p.sh("cat /dev/zero >" + full + " 2>/dev/null || :")
		}
		fill()
		_, err := p.host().Up(p.Context(), sql(routing))
		if err == nil || !strings.Contains(err.Error(), "no space left") {
			p.Errorf("up: %v", err)
		}
		p.same("after an up that failed", before, p.snapshot())
		p.sh("rm " + full)
		p.up(sql(routing))
		fill()
		if report := p.up(sql(routing)); len(report.Changed) > 0 { // needs no write
			p.Errorf("up with nothing to do changed %v", report.Changed)
		}
		if _, err := p.host().Down(p.Context(), "sql"); err == nil || !strings.Contains(err.Error(), "no space left") {
			p.Errorf("down: %v", err)
		}
		p.same("after down on a full disk", before, p.snapshot())
		p.sh("rm " + full)
		p.down("sql")
		p.same("after down", before, p.snapshot())
	})
}

// TestUplinkReturnsToOneOfTwo: a machine whose daemon is dead keeps the route of a temporary
// uplink. The other machine's route takes precedence once its uplink is back.
func TestUplinkReturnsToOneOfTwo(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(flavour, func(t *testing.T) {
			p := newPhone(t, flavour)
			before := p.snapshot()
			p.up(other(MainFirst))
			p.net.SetDefault("rmnet0")
			p.up(sql(MainFirst))
			p.net.SetDefault("wlan0")
			p.up(other(MainFirst))
			p.whole(other(MainFirst))
			p.down("sql")
			p.whole(other(MainFirst))
			p.down("other")
			p.same("after down", before, p.snapshot())
		})
	}
}

// TestRandomLife: two machines go through events in random order. Afterwards no resource of theirs
// is left.
func TestRandomLife(t *testing.T) {
	const events = 25
	seeds := rand.New(rand.NewPCG(repeat.Seed(t), 0))
	for life := range repeat.Times(t, 6, 150) {
		seed := seeds.Uint64()
		t.Run(fmt.Sprint(life), func(t *testing.T) {
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 0))
			p := newPhone(t, flavours[life%2])
			before := p.snapshot()
			modes := []Routing{MainFirst, Scoped}
			vms := []VM{sql(modes[r.IntN(2)]), other(modes[r.IntN(2)])}
			vms[0].Peers = []Peer{peerOf(vms[1])}
			var story []string
			for range events {
				vm := vms[r.IntN(2)]
				event := r.IntN(6)
				story = append(story, fmt.Sprintf("%d:%s", event, vm.Name))
				switch event {
				case 0, 1:
					p.up(vm)
					p.whole(vm)
				case 2:
					p.down(vm.Name)
				case 3:
					p.dies([]string{"up", "down"}[r.IntN(2)], vms[0].Routing, 1+r.IntN(25))
				case 4:
					p.net.SetDefault([]string{"rmnet0", "wlan0"}[r.IntN(2)])
				case 5:
					p.sh([]string{
						"ip link del " + vm.TAP, "ip rule del pref 1", "ip route del default", "ip rule del pref 2",
						"$IPTABLES -F " + chainName(vm.Name, "fwd"), "$IPTABLES -t nat -F POSTROUTING", "$IPTABLES -I FORWARD -j tetherctrl_FORWARD; $IPTABLES -D FORWARD -j tetherctrl_FORWARD",
					}[r.IntN(7)] + " 2>/dev/null || :")
				}
				if t.Failed() {
					t.Fatalf("after %s", strings.Join(story, " "))
				}
			}
			p.net.SetDefault("wlan0")
			p.sh(`$IPTABLES -F FORWARD; for c in oem_fwd fw_FORWARD bw_FORWARD tetherctrl_FORWARD; do $IPTABLES -A FORWARD -j $c; done
				$IPTABLES -t nat -F POSTROUTING; $IPTABLES -t nat -A POSTROUTING -j tetherctrl_nat_POSTROUTING`)
			p.down("sql")
			p.down("other")
			p.same("after "+strings.Join(story, " "), before, p.snapshot())
		})
	}
}
