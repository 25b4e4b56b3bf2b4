// Package controltest runs the control server of a tailnet of the test's own.
package controltest
