// Package controltest runs the control server of a separate tailnet for a test.
package controltest
