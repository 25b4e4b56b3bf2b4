package netd

// A Scene is a set of connections of a phone.
type Scene struct {
	Name     string // start of its heading in the lists of rules
	Networks []Network
	Default  []string // interfaces of the default network; two: an unfinished handover
	VPN      VPN      // zero: none
	Tethers  []Tether
}

// A Network is a network that the framework keeps connected.
type Network struct {
	Interface  string // wlan0, rmnet0 or rmnet1
	IPv6Only   bool   // a carrier without IPv4: clat provides it on v4-INTERFACE
	Restricted bool   // only for processes with the system's permission: an IMS bearer
}

// A VPN is a VPN of an app.
type VPN struct {
	Name        string // interface; empty: no VPN
	App         int    // uid of the only app that it carries; 0: all apps
	Bypassable  bool
	ExcludesLAN bool
	Lockdown    bool // always on; traffic outside it is blocked
}

// A Tether is a network that the phone provides: a hotspot or USB tethering.
type Tether struct {
	Down string // interface to the clients: wlan1 or rndis0
	Up   string // interface of the upstream network
}

var (
	wifi     = Network{Interface: "wlan0"}
	cellular = Network{Interface: "rmnet0"}
	clat     = Network{Interface: "rmnet0", IPv6Only: true}
	byWiFi   = []string{"wlan0"}
	byCell   = []string{"rmnet0"}
)

func underVPN(name string, v VPN) Scene {
	v.Name = "tun0"
	return Scene{Name: name, Networks: []Network{wifi}, Default: byWiFi, VPN: v}
}

// Scenes of the lists of rules.
var (
	Offline            = Scene{Name: "no network"}
	WiFi               = Scene{Name: "Wi-Fi only", Networks: []Network{wifi}, Default: byWiFi}
	Both               = Scene{Name: "Wi-Fi (netId 101", Networks: []Network{cellular, wifi}, Default: byWiFi}
	Cellular           = Scene{Name: "cellular only, IPv4 or dual stack", Networks: []Network{cellular}, Default: byCell}
	IPv6Only           = Scene{Name: "cellular only, IPv6-only", Networks: []Network{clat}, Default: byCell}
	IMS                = Scene{Name: "Wi-Fi + an IMS bearer", Networks: []Network{{Interface: "rmnet1", Restricted: true}, wifi}, Default: byWiFi}
	FullVPN            = underVPN("Wi-Fi + full secure VPN", VPN{})
	Lockdown           = underVPN("the same, always-on with lockdown", VPN{Lockdown: true})
	SplitVPN           = underVPN("Wi-Fi + per-app (split)", VPN{App: SplitUID})
	BypassableVPN      = underVPN("Wi-Fi + full bypassable VPN, local routes not excluded", VPN{Bypassable: true})
	BypassableVPNNoLAN = underVPN("Wi-Fi + full bypassable VPN, local routes excluded", VPN{Bypassable: true, ExcludesLAN: true})
	Hotspot            = Scene{Name: "hotspot wlan1 -> rmnet0", Networks: []Network{cellular}, Default: byCell, Tethers: []Tether{{"wlan1", "rmnet0"}}}
	HotspotIPv6        = Scene{Name: "hotspot wlan1 -> clat", Networks: []Network{clat}, Default: byCell, Tethers: []Tether{{"wlan1", "rmnet0"}}}
	Handover           = Scene{Name: "transient while the default moves", Networks: []Network{wifi, cellular}, Default: []string{"wlan0", "rmnet0"}}
)

// Scenes that are not in the lists, from the same events.
var (
	HotspotAndUSB = Scene{Name: "hotspot wlan1 and USB rndis0", Networks: []Network{cellular, wifi}, Default: byWiFi,
		Tethers: []Tether{{"wlan1", "rmnet0"}, {"rndis0", "wlan0"}}}
	CellularVPN = Scene{Name: "IPv6-only cellular + full secure VPN", Networks: []Network{clat}, Default: byCell, VPN: VPN{Name: "tun0"}}
)

// Scenes lists all scenes of the lists of rules.
var Scenes = []Scene{Offline, WiFi, Both, Cellular, IPv6Only, IMS, FullVPN, Lockdown, SplitVPN, BypassableVPN, BypassableVPNNoLAN, Hotspot, HotspotIPv6, Handover}

// SplitUID is the app that a split VPN carries. A split VPN does not carry AppUID.
const (
	SplitUID = 10200
	AppUID   = 10123
	VPNUID   = 10245 // the VPN app itself
)

// Carries reports whether the VPN carries the traffic of an app.
func (v VPN) Carries(uid int) bool {
	return v.Name != "" && (v.App == 0 || uid == v.App || uid == v.App+10000)
}
