// Package netd simulates Android's netd and the parts of the framework that call it. It sets a
// release's policy rules, routing tables, iptables chains and sysctls in the network namespace of a
// simulated phone. When networks connect and disconnect, it changes them with the same calls in the
// same order.
//
// Events create the rules: a network connects or becomes the default, a VPN or a hotspot starts,
// netd restarts. testdata contains the expected rules by scene, derived from the sources of AOSP,
// LineageOS and CalyxOS (server/RouteController.cpp and server/*Controller.cpp). A test compares
// each scene with its list.
//
// Each uplink is connected to the internet, another namespace, with a server at [ServerIP] and
// [ServerIP6]. A carrier without IPv4 has an interface v4-rmnet0, whose packets travel inside IPv6
// through rmnet0; Android's clatd translates them instead. A hotspot has a client in a separate
// namespace.
//
// Not simulated: BPF programs and their filters, the matches quota2 and bpf (a computer's kernel
// lacks them), clsact queueing disciplines, and rules of vendors.
package netd
