//go:build linux

package cluster

import "io"

// RemoveStalePID removes the postmaster.pid of a server that is not running any more, before a
// server is started manually in the data directory. It reports to output.
func RemoveStalePID(data string, output io.Writer) error {
	return Preparation{Data: data, Output: output}.removeStalePID()
}
