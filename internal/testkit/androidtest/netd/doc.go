// Package netd simulates Android's netd and the parts of the framework that call it: it sets the
// policy rules, routing tables, iptables chains and sysctls of a release in the network namespace
// of a simulated phone, and changes them by the same calls, in the same order, when networks
// connect and disconnect.
//
// The rules are made by events (a network connects, becomes the default, a VPN or a hotspot starts,
// netd is restarted), not read from a list. testdata holds the lists by scene that were derived
// from the sources of AOSP, LineageOS and CalyxOS (server/RouteController.cpp and
// server/*Controller.cpp); a test compares each scene with its list.
//
// Behind each uplink is a real far side: the internet, another namespace, with a server at
// [ServerIP] and [ServerIP6]. A carrier without IPv4 has its v4-rmnet0, whose packets travel inside
// IPv6 by rmnet0; the real one translates them. Behind a hotspot is a client in a namespace of its
// own.
//
// Not simulated: BPF programs and their filters, the matches quota2 and bpf (the kernel of a
// computer lacks them), clsact queueing disciplines, rules of vendors.
package netd
