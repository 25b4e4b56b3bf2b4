package network

import (
	"net/netip"
	"os"
	"strings"
	"testing"
)

// earlierLedger is the file that commit 3e066a9 wrote in everyKind, with earlierBoot as boot ID.
// Phones have such files.
const (
	earlierLedger = "testdata/ledger.json"
	earlierBoot   = "00000000-0000-0000-0000-000000000000"
)

// everyKind sets up three machines, so that the ledger has every kind of resource with every
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

func TestLedgerOfAnEarlierRelease(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(flavour, func(t *testing.T) {
			p := newPhone(t, flavour)
			p.sh("echo 2 >/proc/sys/net/ipv4/conf/default/rp_filter; ip rule add pref 1 to 192.168.101.0/24 lookup main")
			before := p.snapshot()
			p.everyKind()
			earlier, err := os.ReadFile(earlierLedger)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.ReplaceAll(string(earlier), earlierBoot, p.host().bootID)
			if written := p.readLedger(); written != text {
				t.Errorf("this release writes\n%s\nand the earlier one wrote\n%s", written, text)
			}
			if err := os.WriteFile(p.ledger(), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			p.down("third")
			left := p.readLedger()
			for _, vm := range []VM{sql(MainFirst), other(Scoped)} {
				if report := p.up(vm); len(report.Changed) > 0 {
					t.Errorf("up of %s with the earlier ledger changed %v", vm.Name, report.Changed)
				}
				p.whole(vm)
			}
			if now := p.readLedger(); now != left {
				t.Errorf("an up with nothing to do rewrote the ledger:\n%s", now)
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

func (p *phone) readLedger() string {
	p.Helper()
	text, err := os.ReadFile(p.ledger())
	if err != nil {
		p.Fatal(err)
	}
	return string(text)
}

// Entries that this package does not write are refused, with their place in the file.
func TestLedgerRefusesUnknownEntries(t *testing.T) {
	for entry, want := range map[string]string{
		`{"kind":"tunnel","link":"x","owners":["sql"]}`:                                     `entry 0: it describes no "tunnel" that this program makes`,
		`{"kind":"tap","owners":["sql"]}`:                                                   `entry 0: it describes no "tap" that this program makes`,
		`{"kind":"address","link":"x","prefix":"fd00::1/64","owners":["sql"]}`:              `entry 0: it describes no "address" that this program makes`,
		`{"kind":"rule","table":254,"owners":["sql"]}`:                                      `entry 0: it describes no "rule" that this program makes`,
		`{"kind":"route","link":"x","owners":["sql"]}`:                                      `entry 0: it describes no "route" that this program makes`,
		`{"kind":"sysctl","path":"../x","value":"1","owners":["sql"]}`:                      `entry 0: it describes no "sysctl" that this program makes`,
		`{"kind":"chain","ip_table":"nat","from":"INPUT","chain":"sov_x","owners":["sql"]}`: `entry 0: it describes no "chain" that this program makes`,
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
