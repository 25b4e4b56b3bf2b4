// Package daemon keeps a machine running on the phone that this program is on. It composes what the
// other packages know: hostnet the network, crosvm the machine monitor, android what Android does
// to processes, datadisk and configdisk the disks, guestapi the guest.
//
// One daemon per machine holds a lock for as long as it lives, is crosvm's parent, and writes
// state.json at each change. Up starts a daemon and waits for the guest; Down ends it. Whatever was
// killed before, at whatever point, the next Up or Down finds what it left (in the lock, in the
// network's ledger, and among the processes by their control socket) and puts it right.
//
// How a run of crosvm ended decides what follows, see [verdict].
package daemon
