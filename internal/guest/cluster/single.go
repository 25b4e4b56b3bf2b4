//go:build linux

package cluster

import "io"

// RemoveStalePID removes the postmaster.pid of a server that does not run any more, for a server
// that is started in the data directory by hand. What it did goes to output.
func RemoveStalePID(data string, output io.Writer) error {
	return Preparation{Data: data, Output: output}.removeStalePID()
}
