// Package diagnose finds the broken layer of a machine: its process, its TAP interface, policy
// routing, NAT and forwarding on the phone, and the guest's network, clock, tailnet and database.
// Layers depend on each other; a broken layer above another broken layer is reported as its
// consequence.
package diagnose
