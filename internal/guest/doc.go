// Package guest is the program sov-init: the init of a guest when it is PID 1, else one of the
// steps around services' starts that it runs by its own name (main.go).
//
// It only reads the arguments. The rest is in the packages below:
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
// What the recipe can decide is not decided here: which services there are and how they are treated
// is in the image (package guestspec), what is only known at start is on the config disk (package
// configdisk).
package guest
