// Package tailnettest is a module of its own, so that what Tailscale's test servers need stays out
// of the product's go.mod. Its one program, control, is a tailnet for tests; see there.
package tailnettest
