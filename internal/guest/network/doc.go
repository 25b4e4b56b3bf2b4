// Package network gives a guest its place in the network: the interface to the host with its
// address, routes and name servers ([Configure]), and the rules by which packets are let in
// ([Firewall]).
//
// The tailnet's interface belongs to tailscaled (package tailnet); the firewall only has rules for
// it. Which ports are open is decided by the recipe and comes with the specification.
package network
