// Package endpoint answers the requests of the host, over HTTP, on the guest's own address (package
// guestapi): status, metrics, the log, a look at the clock, backup and restore, shells and commands
// (package session), shutdown.
//
// Every request needs the token of this boot; requests without it are refused and rate-limited
// (ratelimit.go). The package gathers nothing itself: what it reports and what it may change are
// the methods of [Machine], which package boot implements.
package endpoint
