package tailscale

import (
	"slices"
	"strings"
)

// omitted lists the features of Tailscale (its package feature/featuretags) that are left out. They
// are for other platforms (desktops, clouds, Kubernetes, NAS, systemd), need a user at the screen,
// or are services that this guest does not offer to its tailnet: SSH, file sharing, web pages,
// proxies, exit node, and the peer API, which tailscaled serves at a port of its choice, past the
// guest's firewall.
//
// A server needs the rest: the kernel's TUN device with nf_tables or iptables, DNS (and netstack,
// which serves it at 100.100.100.100), routes and exit nodes of other nodes, direct connections,
// tailnet lock, health, diagnosis, and the certificate roots for images without ca-certificates.
var omitted = []string{
	// Other platforms and their services.
	"aws", "bird", "cloud", "dbus", "desktop_sessions", "flashappliance", "kube", "linuxdnsfight", "networkmanager",
	"resolved", "sdnotify", "synology", "syslog", "syspolicy", "systray", "tap", "tpm", "wakeonlan",

	// For users at the machine.
	"captiveportal", "colorable", "completion", "completion_scripts", "qrcodes", "webbrowser", "webclient",

	// Services offered to the tailnet or taken from it.
	"acme", "advertiseexitnode", "appconnectors", "conn25", "drive", "outboundproxy", "peerapiserver", "portlist",
	"relayserver", "serve", "serviceclientprefs", "ssh", "taildrop",

	// Management and measurement.
	"capture", "clientupdate", "debugeventbus", "debugportmapper", "hujsonconf", "identityfederation", "linkspeed",
	"netlog", "posture", "remoteconfig", "runtimemetrics",
}

// certificates are the features that order certificates for the node's name. The first does not
// compile without the second (v1.102.5, feature/acme/refresh.go), which serves nothing unless it is
// configured through tailscaled's socket.
var certificates = []string{"acme", "serve"}

// buildTags returns the value of go build's -tags.
func (o Options) buildTags() string {
	tags := []string{"ts_include_cli"} // one program for both names
	for _, feature := range omitted {
		if !o.Certificates || !slices.Contains(certificates, feature) {
			tags = append(tags, "ts_omit_"+feature)
		}
	}
	return strings.Join(tags, ",")
}
