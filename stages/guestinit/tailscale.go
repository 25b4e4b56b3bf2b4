package guestinit

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

const (
	tailscaleState  = "/data/tailscale"
	tailscaleSocket = "/run/tailscale/tailscaled.sock"
	// tailscalePort is Tailscale's documented default UDP port.
	tailscalePort = 41641
)

// TailscaleService describes tailscaled to the init.
//
// The service is off if there is neither a key nor a state. The check for a state runs before the
// daemon, which creates the file at once. After the start a step passes the key, if the node is not
// registered, and the name. No step waits for the tailnet, so a machine without internet access
// still becomes ready.
func TailscaleService(t recipe.Tailscale) guestspec.Service {
	state, statedir := tailscaleState+"/tailscaled.state", tailscaleState
	startIf := guestspec.StartIf{Secret: guestspec.ServiceTailscale, File: state}
	if t.Ephemeral {
		state, statedir = "mem:", "/run/tailscale" // a node with its state in memory registers as ephemeral
		startIf.File = ""
	}
	up := []string{ProgramPath, "tailscale-up", "--socket=" + tailscaleSocket, "--hostname=" + t.Hostname}
	if t.LoginServer != "" {
		up = append(up, "--login-server="+t.LoginServer)
	}
	if len(t.Tags) > 0 {
		up = append(up, "--advertise-tags="+strings.Join(t.Tags, ","))
	}
	directories := []guestspec.Directory{{Path: "/run/tailscale", Mode: "0755"}}
	var prepare []guestspec.Step
	var saved *guestspec.Backup
	if !t.Ephemeral {
		directories = append(directories, guestspec.Directory{Path: tailscaleState, Mode: "0700"})
		up = append(up, "--state="+state)
		saved = &guestspec.Backup{Paths: []string{state}, Asked: true}
		prepare = []guestspec.Step{{
			Command: []string{ProgramPath, "tailscale-prepare", "--state=" + state}, Secret: guestspec.ServiceTailscale, SecretOptional: true,
			Timeout: guestspec.Duration(time.Minute),
		}}
	}
	return guestspec.Service{
		Name: guestspec.ServiceTailscale,
		Command: []string{"/usr/sbin/tailscaled", "--state=" + state, "--statedir=" + statedir, "--socket=" + tailscaleSocket,
			"--tun=" + guestspec.TailnetInterface, "--port=" + strconv.Itoa(tailscalePort)},
		Env: map[string]string{
			// The image has no iptables program; tailscaled speaks nf_tables itself.
			"TS_DEBUG_FIREWALL_MODE": "nftables",
			// The log of a database machine is private.
			"TS_NO_LOGS_NO_SUPPORT": "true",
			"TS_LOGS_DIR":           "/run/tailscale", // tailscaled stores its log ID there, even if it sends no logs
		},
		StartIf:     &startIf,
		Directories: directories,
		Prepare:     prepare,
		Ready:       guestspec.Ready{Unix: tailscaleSocket},
		PostReady: []guestspec.Step{{
			Command: up, Secret: guestspec.ServiceTailscale, SecretOptional: true, Timeout: guestspec.Duration(time.Minute),
		}},
		// The kernel kills it before PostgreSQL (-900) and after the recipe's services.
		OOMScoreAdj: -500,
		Rights: guestspec.Rights{
			Capabilities: []string{"net_admin", "net_raw"}, // its interface, routes and rules; the ICMP of its own netstack
			Devices:      []string{"/dev/net/tun"},
			Write:        []string{"/run/resolv.conf"}, // MagicDNS
		},
		Limits: guestspec.Limits{Memory: "50%", Processes: 512, Weight: guestspec.OwnWeight},
		Backup: saved,
	}
}

// Firewall returns the guest's firewall rules for the services of the recipe.
//
// postgres.networks decides who can reach PostgreSQL. Other ports are open to all packets from the
// host, which decides with network.publish what it forwards, and to the tailnet, which has its own
// rules.
func Firewall(r *recipe.Recipe) guestspec.Firewall {
	var f guestspec.Firewall
	open := func(service, protocol string, port int, on string, from ...string) {
		f.Open = append(f.Open, guestspec.Opening{Service: service, Protocol: protocol, Port: uint16(port), On: on, From: from})
	}
	// The pooler has the same rules as the server.
	databases := map[int]string{}
	if r.Postgres.Enabled {
		databases[r.Postgres.Port] = guestspec.ServicePostgres
	}
	if r.Postgres.Pooled() {
		databases[r.Postgres.Pooler.Port] = guestspec.ServicePooler
	}
	for _, port := range slices.Sorted(maps.Keys(databases)) {
		service := databases[port]
		var from []string
		for _, network := range r.Postgres.Networks {
			switch {
			case network == recipe.NetworkTAP:
				from = append(from, guestspec.FromSubnet)
			case network == recipe.NetworkPeers: // the phone's rules list each peer
				for _, pool := range vmspec.Pools {
					from = append(from, pool.String())
				}
			case network != recipe.NetworkTailnet:
				from = append(from, network)
			case r.Tailscale.Enabled:
				open(service, guestspec.TCP, port, guestspec.OnTailnet)
			}
		}
		if len(from) > 0 {
			open(service, guestspec.TCP, port, guestspec.OnLink, from...)
		}
	}
	if r.Postgres.Enabled {
		for i := range f.Open { // each password guess takes a connection
			f.Open[i].PerSecond = uint32(r.Postgres.ConnectRate)
		}
	}
	for _, p := range r.Network.Publish {
		if databases[p.Port] != "" && p.Protocol == guestspec.TCP {
			continue
		}
		open(p.Service, p.Protocol, p.Port, guestspec.OnLink)
		if r.Tailscale.Enabled {
			open(p.Service, p.Protocol, p.Port, guestspec.OnTailnet)
		}
	}
	if r.Tailscale.Enabled {
		open(guestspec.ServiceTailscale, guestspec.UDP, tailscalePort, guestspec.OnLink)
	}
	return f
}
