// Package guesttest boots machines in QEMU on this computer for tests, queries them, and shuts them
// down or kills them.
package guesttest
