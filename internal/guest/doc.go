// Package guest is the program sov-init. As PID 1 it is the init of a guest. Under other names it
// is one of the steps around the start of a service (main.go).
//
// It only parses the arguments. The implementation is in the packages below:
//
//   - boot: PID 1 from the first mount to the power switch; it connects the other packages
//   - process: starts processes, and waits for them and for every orphan
//   - supervision: runs the services, each with its order, readiness, restarts and end
//   - filesystem: the kernel's file systems, tmpfs, directories
//   - disk: the config disk and the data disk
//   - network: the interface to the host, the firewall
//   - endpoint: answers the host's requests over HTTP
//   - journal: the log, on the console and on the data disk
//   - timekeeper: keeps the clock
//   - certificate: the machine's certificate authority and its services' certificate
//   - cluster: PostgreSQL's data directory, roles, extensions, collations, backup and restore
//   - tailnet: asks tailscaled to join the tailnet, and how it is there
//
// The services and their settings come from the recipe and are in the image (package guestspec).
// What is known only at start is on the config disk (package configdisk).
package guest
