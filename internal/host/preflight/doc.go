// Package preflight checks before anything is sent to a phone whether it can run a machine and has
// space for it. It reports all problems at once, each with what to do about it.
package preflight
