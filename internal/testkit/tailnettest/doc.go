// Package tailnettest is a separate module, so that the dependencies of Tailscale's test servers
// are not in the product's go.mod. Its program control runs a tailnet for tests.
package tailnettest
