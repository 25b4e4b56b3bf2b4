// Package network configures a guest's network: the interface to the host with its address, routes
// and name servers ([Configure]), and the rules for incoming packets ([Firewall]).
//
// tailscaled (package tailnet) manages the tailnet's interface; the firewall only has rules for it.
// The open ports come from the recipe, through the specification.
package network
