// Package tailscale is the stage that builds Tailscale for the guest: daemon and command line in
// one static program, without features that a headless node does not need.
//
// A separate Go module pins the version, so that the program's hundreds of dependencies stay out of
// this repository's go.mod. A file named go.mod cannot be embedded (it makes its directory another
// module), so the module's files are named tailscaled.mod and tailscaled.sum. To update the
// version:
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
