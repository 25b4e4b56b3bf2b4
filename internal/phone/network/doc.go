// Package network connects a virtual machine to the network of its host, a phone or any Linux
// computer. It sets up a TAP interface with the host's address, policy rules and routes for the
// guest's packets, forwarding, NAT and the necessary sysctls. It supports only IPv4, and disables
// IPv6 on the TAP interface.
//
// [Host.Up] brings the network to the state that a [VM] describes, and Down undoes it. Up is
// idempotent and also repairs: it creates what is missing and keeps what exists. Follow calls it
// whenever the kernel reports a change of the uplink, a route or a rule.
//
// # Ownership
//
// Resources of other programs are never changed. Before Up creates a resource, it writes the
// resource to a ledger and syncs it, with its owners (names of machines) and the previous value if
// it replaces one. After a kill at any point the next process therefore knows everything that may
// exist. A rule, route or value that existed before is marked as found, and stays when the last
// owner is removed. The ledger has the kernel's boot ID: after a reboot there is nothing to undo.
//
// Resources also have marks where the kernel supports them: an interface has its machine's name as
// alias, a chain has its name, a rule or route has the protocol 115 or 116. A lost ledger is
// rebuilt from these marks.
//
// # Where the packets go
//
// Android has one routing table for each interface, rules of priority 10000 and above, and an
// unreachable rule at the end; no rule uses the table main. Two [Routing] modes route the guest's
// traffic in this setup:
//
//	scoped       1: to SUBNET lookup main
//	             2: iif TAP lookup UPLINK'S TABLE
//	main-first   1: from all lookup main          and the uplink's default route in main
//
// The second mode also affects other traffic, so [Host.Decide] uses it only if a round trip fails
// in the first. The uplink is that of Android's default network, see [Host.Uplink].
//
// Filter and NAT rules are in the machine's own chains, sov_NAME_PURPOSE, with jumps at the top of
// the built-in ones. They confine the guest, and prevent users of the host other than root from
// reaching it. All rules of a table are replaced in one transaction of iptables-restore, before
// anything else of the machine is created.
//
// Forwarding is requested from Android's netd, if available, which manages ip_forward for all
// programs.
package network
