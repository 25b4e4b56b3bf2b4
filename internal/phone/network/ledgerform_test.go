package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ledgers are files that releases have written in everyKind, with earlierBoot as boot ID: one of
// commit 3e066a9, and one of the first release with chains for the phone's own packets. Phones have
// such files.
var ledgers = []string{"testdata/ledger.json", "testdata/ledger-confined.json"}

const earlierBoot = "00000000-0000-0000-0000-000000000000"

// everyKind sets up three machines. The ledger then has every kind of resource with every
// combination of fields: rules for all packets, to a subnet and from an interface, one of them
// found; routes with and without a gateway; sysctls that replaced a value.
func (p *phone) everyKind() {
	p.Helper()
	third := VM{Name: "third", TAP: "vm_third", Host: netip.MustParsePrefix("192.168.102.1/24"),
		Guest: netip.MustParsePrefix("192.168.102.2/24"), MTU: 1500, Routing: MainFirst}
	p.up(sql(MainFirst))
	p.up(other(Scoped))
	p.net.SetDefault("rmnet0")
	p.up(third)
	p.net.SetDefault("wlan0")
}

// replay creates the resources of a ledger, as the release that wrote it did.
func (p *phone) replay(text string) {
	p.Helper()
	l, err := decodeLedger([]byte(text))
	if err != nil {
		p.Fatal(err)
	}
	for _, e := range l.Entries {
		if e.Found {
			continue
		}
		switch r := e.resource.(type) {
		case chain:
			p.sh(fmt.Sprintf("$IPTABLES -w -t %s -N %s; $IPTABLES -w -t %[1]s -A %[2]s -j RETURN; $IPTABLES -w -t %[1]s -I %[3]s 1 -j %[2]s", r.Table, r.Name, r.From))
		default:
			if err := r.make(p.host()); err != nil {
				p.Fatalf("%s: %v", r, err)
			}
		}
		if t, ok := e.resource.(tap); ok {
			p.sh(fmt.Sprintf("ip link set %s alias sov:%s; ip link set %[1]s up", t.Link, e.Owners[0]))
		}
	}
	if err := os.WriteFile(p.ledger(), []byte(text), 0o600); err != nil {
		p.Fatal(err)
	}
}

func TestLedgerOfAnEarlierRelease(t *testing.T) {
	for _, file := range ledgers {
		for _, flavour := range flavours {
			t.Run(filepath.Base(file)+"/"+flavour, func(t *testing.T) {
				p := newPhone(t, flavour)
				p.sh("echo 2 >/proc/sys/net/ipv4/conf/default/rp_filter; ip rule add pref 1 to 192.168.101.0/24 lookup main")
				before := p.snapshot()
				earlier, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				p.replay(strings.ReplaceAll(string(earlier), earlierBoot, p.host().bootID))
				p.down("third")
				for _, vm := range []VM{sql(MainFirst), other(Scoped)} {
					p.up(vm)
					p.whole(vm)
					left := p.readLedger()
					if report := p.up(vm); len(report.Changed) > 0 || p.readLedger() != left {
						t.Errorf("another up of %s changed %v, or the ledger", vm.Name, report.Changed)
					}
				}
				p.down("sql")
				p.down("other")
				p.same("all down with the earlier ledger", before, p.snapshot())
				l, err := decodeLedger([]byte(p.readLedger()))
				if err != nil || len(l.Entries) > 0 || len(l.Uplinks) > 0 {
					t.Errorf("left in the ledger: %v, %v, %v", l.Entries, l.Uplinks, err)
				}
				if _, err := os.Stat(p.ledger() + damagedSuffix); err == nil {
					t.Error("the earlier ledger was taken for damaged")
				}
			})
		}
	}
}

// TestLedgerForm: this release writes the same text as the last of the files.
func TestLedgerForm(t *testing.T) {
	p := newPhone(t, flavours[0])
	p.sh("echo 2 >/proc/sys/net/ipv4/conf/default/rp_filter; ip rule add pref 1 to 192.168.101.0/24 lookup main")
	p.everyKind()
	want, err := os.ReadFile(ledgers[len(ledgers)-1])
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.ReplaceAll(p.readLedger(), p.host().bootID, earlierBoot); got != string(want) {
		t.Errorf("this release writes\n%s\nwant\n%s", got, want)
	}
}

func (p *phone) readLedger() string {
	p.Helper()
	text, err := os.ReadFile(p.ledger())
	if err != nil {
		p.Fatal(err)
	}
	return string(text)
}

// TestLedgerRefusesUnknownEntries: entries that this package does not write are refused. The error
// has their place in the file.
func TestLedgerRefusesUnknownEntries(t *testing.T) {
	for entry, want := range map[string]string{
		`{"kind":"tunnel","link":"x","owners":["sql"]}`:                                     `entry 0: it describes no "tunnel" that this program makes`,
		`{"kind":"tap","owners":["sql"]}`:                                                   `entry 0: it describes no "tap" that this program makes`,
		`{"kind":"address","link":"x","prefix":"fd00::1/64","owners":["sql"]}`:              `entry 0: it describes no "address" that this program makes`,
		`{"kind":"rule","table":254,"owners":["sql"]}`:                                      `entry 0: it describes no "rule" that this program makes`,
		`{"kind":"route","link":"x","owners":["sql"]}`:                                      `entry 0: it describes no "route" that this program makes`,
		`{"kind":"sysctl","path":"../x","value":"1","owners":["sql"]}`:                      `entry 0: it describes no "sysctl" that this program makes`,
		`{"kind":"chain","ip_table":"nat","from":"other","chain":"sov_x","owners":["sql"]}`: `entry 0: it describes no "chain" that this program makes`,
		`{"kind":"ipfwd","requester":"Tethering","owners":["sql"]}`:                         `entry 0: it describes no "ipfwd" that this program makes`,
		`{"kind":"tap","link":"x"}`:                                                         `entry 0: it has no owner`,
		`null`:                                                                              `entry 0: it has no owner`,
		`{"kind":"tap","link":"x","owners":["sql"],"colour":"red"}`:                         `unknown field "colour"`,
	} {
		_, err := decodeLedger([]byte(`{"format":1,"boot_id":"b","entries":[` + entry + `],"uplinks":{}}`))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", entry, err, want)
		}
	}
}
