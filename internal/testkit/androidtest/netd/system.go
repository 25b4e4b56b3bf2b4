package netd

import "fmt"

// A System is a release of Android with a distinct netd.
type System struct {
	Name    string
	Release int // of Android: 13 to 16
	// Lineage selects the rules of LineageOS and CalyxOS: physical networks require the system's
	// permission, and ordinary apps reach their default network by separate rules.
	Lineage bool
}

// Systems lists all simulated systems. Android 16 is the same as 15: RouteController.cpp did not
// change up to March 2025.
var Systems = []System{
	{"AOSP 13", 13, false}, {"AOSP 14", 14, false}, {"AOSP 15", 15, false}, {"AOSP 16", 16, false},
	{"LineageOS 20", 13, true}, {"LineageOS 21", 14, true}, {"LineageOS 22", 15, true}, {"CalyxOS", 15, true},
}

// AOSP and LineageOS are the defaults of the two families.
var (
	AOSP      = Systems[2]
	LineageOS = Systems[6]
)

// Bits of a packet's mark (include/Fwmark.h).
const (
	explicit  = 0x10000 // the socket has chosen its network
	protected = 0x20000 // from the VPN
	system    = 0xc0000 // the socket's process has the system's permission
	netIDs    = 0xffff
)

// Priorities of the rules (server/RouteController.h).
const (
	prioVPNOverrideSystem   = 10000
	prioVPNOverrideOIF      = 11000
	prioVPNOutputToLocal    = 12000
	prioSecureVPN           = 13000
	prioProhibitNonVPN      = 14000
	prioExplicitNetwork     = 16000
	prioOutputInterface     = 17000
	prioLegacySystem        = 18000
	prioLegacyNetwork       = 19000
	prioLocalNetwork        = 20000
	prioTethering           = 21000
	prioImplicitNetwork     = 23000
	prioBypassableVPN       = 24000 // the VPN includes local routes
	prioLocalRoutes         = 26000
	prioBypassableVPNNoLAN  = 27000 // the VPN excludes local routes
	prioVPNFallthrough      = 28000
	prioUIDDefaultNetwork   = 30000
	prioDefaultNetwork      = 31000
	prioUnreachable         = 32000
	uidDefaultSubPriority   = 1
	tableLocalNetwork       = 97
	tableLegacyNetwork      = 98
	tableLegacySystem       = 99
	tableOffset             = 1000
	localTableOffset        = 1000000000
	localNetID              = 99
	firstNetID              = 100
	firstAppUID, lastAppUID = 10000, 99999
)

// coreRules returns the rules that netd adds at its start, in order.
func coreRules() []string {
	return []string{
		fmt.Sprintf("pref %d fwmark 0x0/%#x lookup %d", prioLegacySystem, explicit, tableLegacySystem),
		fmt.Sprintf("pref %d fwmark 0x0/%#x lookup %d", prioLegacyNetwork, explicit, tableLegacyNetwork),
		fmt.Sprintf("pref %d fwmark %#x/%#x lookup %d", prioVPNOverrideSystem, system, system|explicit, tableLegacySystem),
		fmt.Sprintf("pref %d fwmark %#x/%#x iif lo lookup %d", prioExplicitNetwork, explicit|localNetID, explicit|netIDs, tableLocalNetwork),
		fmt.Sprintf("pref %d fwmark 0x0/%#x lookup %d", prioLocalNetwork, explicit, tableLocalNetwork),
		fmt.Sprintf("pref %d unreachable", prioUnreachable),
	}
}

// physical returns the rules of a network's interface, in the order in which netd adds them.
func (s System) physical(name string, table, netID int, restricted bool) []string {
	mark, mask := explicit|netID, explicit|netIDs
	if restricted {
		mark, mask = mark|system, mask|system
	}
	demand := ""
	if restricted || s.Lineage {
		demand = fmt.Sprintf("fwmark %#x/%#x ", system, system)
	}
	out := []string{
		fmt.Sprintf("pref %d fwmark %#x/%#x iif lo lookup %d", prioExplicitNetwork, mark, mask, table),
		fmt.Sprintf("pref %d iif lo oif %s uidrange 0-0 lookup %d", prioVPNOverrideOIF, name, table),
		fmt.Sprintf("pref %d %siif lo oif %s lookup %d", prioOutputInterface, demand, name, table),
	}
	if !restricted && !s.Lineage {
		out = append(out, fmt.Sprintf("pref %d fwmark %#x/%#x iif lo lookup %d", prioImplicitNetwork, netID, explicit|netIDs, table))
	}
	return out
}

// defaultNetwork returns the rules of the default network's interface.
func (s System) defaultNetwork(table int) []string {
	if !s.Lineage {
		return []string{fmt.Sprintf("pref %d fwmark 0x0/%#x iif lo lookup %d", prioDefaultNetwork, netIDs, table)}
	}
	return []string{
		fmt.Sprintf("pref %d fwmark %#x/%#x iif lo lookup %d", prioDefaultNetwork, system, system|netIDs, table),
		fmt.Sprintf("pref %d fwmark 0x0/%#x iif lo uidrange %d-%d lookup %d", prioUIDDefaultNetwork+uidDefaultSubPriority, netIDs,
			firstAppUID, lastAppUID, table),
	}
}

// fallthroughs returns the rules that route traffic which a VPN does not carry to an interface of
// the default network.
func (s System) fallthroughs(vpn, table int) []string {
	if s.Lineage {
		mask := system | netIDs
		if s.Release > 13 {
			mask |= explicit
		}
		return []string{fmt.Sprintf("pref %d fwmark %#x/%#x lookup %d", prioVPNFallthrough, system|vpn, mask, table)}
	}
	return []string{
		fmt.Sprintf("pref %d fwmark %#x/%#x lookup %d", prioVPNFallthrough, vpn, netIDs, table),
		fmt.Sprintf("pref %d fwmark 0x0/%#x iif lo lookup %d", prioLocalRoutes, explicit, localTableOffset+table-tableOffset),
	}
}

// virtual returns the rules of a VPN's interface, in the order in which netd adds them.
func (v VPN) virtual(name string, table, netID int) []string {
	prio, unprotected := prioSecureVPN, protected
	if v.Bypassable {
		prio, unprotected = prioBypassableVPN, protected|explicit
		if v.ExcludesLAN {
			prio = prioBypassableVPNNoLAN
		}
	}
	out := []string{
		fmt.Sprintf("pref %d iif %s lookup %d", prioVPNOutputToLocal, name, tableLocalNetwork),
		fmt.Sprintf("pref %d fwmark %#x/%#x lookup %d", prio, system|netID, system|netIDs, table),
		fmt.Sprintf("pref %d fwmark %#x/%#x iif lo uidrange 0-0 lookup %d", prioExplicitNetwork, explicit|netID, explicit|netIDs, table),
	}
	for _, uids := range v.ranges() {
		out = append(out,
			fmt.Sprintf("pref %d fwmark 0x0/%#x iif lo uidrange %s lookup %d", prio, unprotected, uids, table),
			fmt.Sprintf("pref %d fwmark %#x/%#x iif lo uidrange %s lookup %d", prioExplicitNetwork, explicit|netID, explicit|netIDs, uids, table),
			fmt.Sprintf("pref %d iif lo oif %s uidrange %s lookup %d", prioOutputInterface, name, uids, table))
	}
	if v.Lockdown {
		for _, uids := range lockdownRanges {
			out = append(out, fmt.Sprintf("pref %d fwmark 0x0/%#x iif lo uidrange %s prohibit", prioProhibitNonVPN, protected, uids))
		}
	}
	return out
}

// lockdownRanges contains all uids except the VPN app's and its SDK sandbox's.
var lockdownRanges = []string{"0-10244", "10246-20244", "20246-99999"}

// ranges returns the uids whose traffic the VPN carries. A split VPN also carries the SDK sandbox
// of its app.
func (v VPN) ranges() []string {
	if v.App == 0 {
		return []string{"0-99999"}
	}
	return []string{fmt.Sprintf("%d-%[1]d", v.App), fmt.Sprintf("%d-%[1]d", v.App+10000)}
}
