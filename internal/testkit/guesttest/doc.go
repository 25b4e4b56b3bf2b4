// Package guesttest boots machines in QEMU on this computer, asks them, and ends them in order or
// not.
package guesttest
