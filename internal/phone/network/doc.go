// Package network gives a virtual machine its place in the network of the phone (or any Linux
// computer) that runs it: a TAP interface with the host's address, policy rules and routes by which
// the guest's packets leave and come back, forwarding, address translation and the sysctls that all
// of it needs. IPv4 only: IPv6 is switched off on the TAP interface.
//
// A [Host] brings the network to the state that a [VM] wants with Up, as often as one likes, and
// back with Down. Up is also the repair: what is missing is made, what is there stays. Follow calls
// it whenever the kernel reports that the uplink, a route or a rule has changed.
//
// # Ownership
//
// What another made is never touched. Each resource that Up is about to make is first written to a
// ledger, synced to the disk, with its owners (the names of machines) and, where a value is
// replaced, the value before; so a process that is killed at any point leaves nothing of which the
// next one does not know. A rule, route or value that was there before is noted as found, and stays
// when the last owner goes. The ledger carries the kernel's boot ID: after a reboot there is
// nothing left to undo.
//
// What is made also carries a mark where the kernel has a place for one: an interface its machine's
// name as alias, a chain in its name, a rule or route the protocol 115 or 116. From these the
// ledger is made anew when it is lost.
//
// # Where the packets go
//
// Android routes by rules of priority 10000 and above, one table for each interface, and ends with
// an unreachable rule; no rule leads to the table main. Two [Routing] modes put the guest's traffic
// on its way there:
//
//	scoped       1: to SUBNET lookup main
//	             2: iif TAP lookup UPLINK'S TABLE
//	main-first   1: from all lookup main          and the uplink's default route in main
//
// The second takes the traffic of others along, so [Host.Decide] takes it only where a round trip
// shows that the first does not carry. The uplink is that of Android's default network, see
// [Host.Uplink].
//
// Filter and NAT rules stand in chains of the machine's own, sov_NAME_PURPOSE, which are jumped to
// from the top of the built-in ones. They confine the guest, and keep the host's users other than
// root from it. Those of a table are replaced as a whole, in one transaction of iptables-restore,
// before anything else of the machine is made.
//
// Forwarding is asked of Android's netd, where that can be asked: it writes ip_forward for
// everybody who needs it.
package network
