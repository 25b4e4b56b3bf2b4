// Package session is how a shell or a command in the guest is reached: frames in both directions
// over a connection that the guest's endpoint has handed over (package guestapi, PathSession), and
// the side that asks for one.
//
// A frame is a byte that says its kind, the length of its payload (four bytes, big-endian, at most
// MaxPayload) and the payload. The client begins with a Begin frame. The guest ends with an End
// frame. Both send an Alive frame every few seconds, and take a peer that has been silent for
// Patience for lost: the guest then hangs up on the command, and the client gives the terminal
// back.
//
// What the guest starts for whom is decided by package guest/endpoint; terminals of the caller are
// package host/terminal's.
package session
