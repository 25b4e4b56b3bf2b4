//go:build linux

// Sov-init is PID 1 of a guest; see package guest.
package main

import (
	"os"

	"github.com/sovereign-sql/sov/internal/guest"
)

func main() {
	os.Exit(guest.Main(os.Args, os.Stdin, os.Stderr))
}
