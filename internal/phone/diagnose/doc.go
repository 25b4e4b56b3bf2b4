// Package diagnose finds out which of a machine's nine layers is broken: the process that runs it,
// its TAP interface, policy routing, NAT and forwarding on the phone, and the guest's network,
// clock, tailnet and database. Each layer stands on others; one that is broken while what it stands
// on is broken too is named as a consequence of that.
package diagnose
