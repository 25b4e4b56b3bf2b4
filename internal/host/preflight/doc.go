// Package preflight looks at a phone before anything is sent to it: whether it can run a machine,
// and has room for it. Everything is looked at, so that a person learns of all that is missing at
// once, each with what to do.
package preflight
