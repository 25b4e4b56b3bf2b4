package androidtest

import (
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// connect lays the wires between the phone and the internet and routes as Android does. The internet knows the
// addresses of the phone on its uplinks, and nothing of a network behind it.
func (p *Phone) connect() {
	p.t.Helper()
	phone, internet := strconv.Itoa(p.phone.Process.Pid), strconv.Itoa(p.internet.Process.Pid)
	for near, far := range map[string]string{"wlan0": "ap0", "rmnet0": "cell0"} {
		// Made where they belong: the computer's own network never sees them.
		out, err := exec.Command("ip", "link", "add", near, "netns", phone, "type", "veth", "peer", "name", far, "netns", internet).CombinedOutput()
		if err != nil {
			p.t.Fatalf("make %s: %v: %s", near, err, out)
		}
	}
	p.InternetShell(`
		echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
		ip link set lo up
		ip addr add ` + ServerIP + `/32 dev lo
		ip addr add ` + gateway + `/24 dev ap0; ip addr add ` + gateway2 + `/24 dev ap0; ip link set ap0 up
		ip link set cell0 up; ip route add ` + MobileIP + ` dev cell0
		echo 1 >/proc/sys/net/ipv4/conf/cell0/proxy_arp # a mobile link has no neighbours: it takes every address`)
	p.Shell(`
		echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
		ip link set lo up
		ip addr add ` + WLANIP + `/24 dev wlan0; ip link set wlan0 up
		ip addr add ` + MobileIP + `/32 dev rmnet0; ip link set rmnet0 up
		ip route add 192.168.1.0/24 dev wlan0 table ` + wlanTable + `
		ip route add default via ` + gateway + ` dev wlan0 table ` + wlanTable + `
		ip route add default dev rmnet0 table ` + cellTable + `
		ip rule del pref 32766; ip rule del pref 32767
		ip rule add pref 10000 fwmark 0xc0000/0xd0000 lookup 99
		ip rule add pref 11000 iif lo oif wlan0 uidrange 0-0 lookup ` + wlanTable + `
		ip rule add pref 11000 iif lo oif rmnet0 uidrange 0-0 lookup ` + cellTable + `
		ip rule add pref 16000 fwmark 0x10064/0x1ffff iif lo lookup ` + wlanTable + `
		ip rule add pref 16000 fwmark 0x10065/0x1ffff iif lo lookup ` + cellTable + `
		ip rule add pref 17000 iif lo oif wlan0 lookup ` + wlanTable + `
		ip rule add pref 17000 iif lo oif rmnet0 lookup ` + cellTable + `
		ip rule add pref 18000 fwmark 0x0/0x10000 lookup 99
		ip rule add pref 19000 fwmark 0x0/0x10000 lookup 98
		ip rule add pref 20000 fwmark 0x0/0x10000 lookup 97
		ip rule add pref 31000 fwmark 0x0/0xffff iif lo lookup ` + wlanTable + `
		ip rule add pref 32000 unreachable
		echo 0 >/proc/sys/net/ipv4/ip_forward
		echo 2 >/proc/sys/net/ipv4/conf/all/rp_filter
		for c in oem_fwd fw_FORWARD bw_FORWARD tetherctrl_FORWARD; do $IPTABLES -N $c; $IPTABLES -A FORWARD -j $c; done
		$IPTABLES -A tetherctrl_FORWARD -j DROP; $IPTABLES -P FORWARD DROP
		$IPTABLES -t nat -N oem_nat_pre; $IPTABLES -t nat -A PREROUTING -j oem_nat_pre
		$IPTABLES -t nat -N tetherctrl_nat_POSTROUTING; $IPTABLES -t nat -A POSTROUTING -j tetherctrl_nat_POSTROUTING`)
}

// SwitchUplink makes another interface, "wlan0" or "rmnet0", that of the default network, as netd does: the new rule
// comes before the old one goes. An empty name leaves the phone without.
func (p *Phone) SwitchUplink(name string) {
	p.t.Helper()
	script := ""
	if name != "" {
		script = "ip rule add pref 31000 fwmark 0x0/0xffff iif lo lookup " + tables[name] + "; "
	}
	for other, table := range tables {
		if other != name && strings.Contains(p.Shell("ip rule show pref 31000"), "lookup "+table) {
			script += "ip rule del pref 31000 fwmark 0x0/0xffff iif lo lookup " + table + "; "
		}
	}
	p.Shell(script)
}

// UplinkDown switches an interface off, as airplane mode does: its routes go with it.
func (p *Phone) UplinkDown(name string) {
	p.t.Helper()
	p.Shell("ip link set " + name + " down")
}

var tables = map[string]string{"wlan0": wlanTable, "rmnet0": cellTable}

// ChangeGateway gives wlan0 another gateway, as roaming between access points may.
func (p *Phone) ChangeGateway() {
	p.t.Helper()
	p.Shell("ip route replace default via " + gateway2 + " dev wlan0 table " + wlanTable)
}

// AddVPN connects a VPN for one app, as Android's VpnService does: an interface with a table, and rules that lead the
// app's traffic there before the default network is looked at. The VPN's other end is the internet's server.
func (p *Phone) AddVPN() {
	p.t.Helper()
	phone, internet := strconv.Itoa(p.phone.Process.Pid), strconv.Itoa(p.internet.Process.Pid)
	out, err := exec.Command("ip", "link", "add", "tun0", "netns", phone, "type", "veth", "peer", "name", "vpn0", "netns", internet).CombinedOutput()
	if err != nil {
		p.t.Fatalf("make tun0: %v: %s", err, out)
	}
	p.InternetShell("ip link set vpn0 up; ip route add " + VPNIP + " dev vpn0; echo 1 >/proc/sys/net/ipv4/conf/vpn0/proxy_arp")
	uid := strconv.Itoa(VPNUID)
	p.Shell(`ip addr add ` + VPNIP + `/32 dev tun0; ip link set tun0 up; ip route add default dev tun0 table ` + vpnTable + `
		ip rule add pref 11000 iif lo oif tun0 uidrange 0-0 lookup ` + vpnTable + `
		ip rule add pref 12000 iif tun0 lookup 97
		ip rule add pref 13000 fwmark 0x0/0x20000 iif lo uidrange ` + uid + `-` + uid + ` lookup ` + vpnTable)
}

var volatile = regexp.MustCompile(`\[\d+:\d+\]|(?m)^#.*\n|@\w+|qlen \d+| linkdown|NO-CARRIER,|\b(UP|DOWN|UNKNOWN) +`)

// Snapshot is the whole of the phone's network that a machine may touch, as text to be compared line by line: rules,
// routes, interfaces, addresses, iptables, sysctls. What counts packets is left out, and what the kernel makes of a change
// of the carrier in its own time (net/core/link_watch.c): the operational state and what follows from it.
func (p *Phone) Snapshot() string {
	p.t.Helper()
	return volatile.ReplaceAllString(p.Shell(`ip rule; ip route show table all | sort; ip -brief link; ip -brief -4 addr; /system/bin/iptables-save;
		cd /proc/sys/net/ipv4; grep -s . ip_forward conf/*/rp_filter || true # an interface may go meanwhile`), "")
}

// Differences are the lines of which one of two texts has none: "gone: …" of the first's, "new: …" of the second's.
func Differences(before, after string) []string {
	was, is := strings.Split(before, "\n"), strings.Split(after, "\n")
	var out []string
	for _, line := range was {
		if !slices.Contains(is, line) {
			out = append(out, "gone: "+line)
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			out = append(out, "new: "+line)
		}
	}
	return out
}
