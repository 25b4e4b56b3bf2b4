// Package endpoint serves the host's requests over HTTP on the guest's address (package guestapi):
// status, metrics, the log, the clock, backup and restore, shells and commands (package session),
// shutdown.
//
// Every request needs the token of this boot; requests without it are refused and rate-limited
// (ratelimit.go). The package reads and changes the guest only through [Machine], which package
// boot implements.
package endpoint
