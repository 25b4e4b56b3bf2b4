// Package daemon runs a machine on the phone. It combines other packages: network for the phone's
// network, crosvm for the virtual machine monitor, android for the protection of processes,
// datadisk and configdisk for the disks, guestapi for the guest.
//
// One daemon per machine holds a lock while it runs, is crosvm's parent, and writes state.json at
// each change. Up starts a daemon and waits for the guest; Down ends it. After a kill of any
// process at any point, the next Up or Down finds the leftovers (by the lock, the network's ledger,
// and the control socket in the arguments of processes) and cleans them up.
//
// The end of a run of crosvm decides the next action, see [verdict].
package daemon
