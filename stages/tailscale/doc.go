// Package tailscale is the stage that builds Tailscale for the guest: daemon
// and command line in one static program, without what a headless node has no
// use for.
//
// The version is pinned by a Go module of its own, so that the program's
// hundreds of dependencies stay out of this repository's go.mod. Files called
// go.mod cannot be embedded (they make their directory another module), so
// they stand here as tailscaled.mod and tailscaled.sum. To take a new version:
//
//	dir=$(mktemp -d)
//	cp stages/tailscale/tailscaled.mod $dir/go.mod
//	cp stages/tailscale/tailscaled.sum $dir/go.sum
//	(cd $dir && go get tailscale.com@vX.Y.Z && go mod tidy)
//	cp $dir/go.mod stages/tailscale/tailscaled.mod
//	cp $dir/go.sum stages/tailscale/tailscaled.sum
//
// Outputs: "tailscale.tar" with /usr/sbin/tailscaled and a symbolic link to it,
// /usr/bin/tailscale; "tailscale.json", an Info.
package tailscale
