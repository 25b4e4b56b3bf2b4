package postgres

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// Paths of the configuration in the root file system.
const (
	configDir  = "/etc/sov/postgres"
	configFile = configDir + "/postgresql.conf"
	hbaFile    = configDir + "/pg_hba.conf"
	identFile  = configDir + "/pg_ident.conf"
)

// socketDir is where the server's Unix socket is; a tmpfs is mounted on /run.
const socketDir = "/run/postgresql"

// identMap maps the server's system user and root to the role postgres. The init's readiness probe
// runs as root, which could become the server's user anyway.
const identMap = "sov"

// settings returns the settings that the recipe decides, directly or by the machine's size, in the
// syntax of postgresql.conf. They replace the defaults.
func settings(r *recipe.Recipe) map[string]string {
	p := r.Postgres
	out := memorySettings(r.VM.Memory, r.VM.Data)
	out["fsync"] = "on"
	out["unix_socket_permissions"] = "0777"
	out["listen_addresses"] = quote(strings.Join(p.Listen, ", "))
	out["port"] = fmt.Sprint(p.Port)
	out["data_directory"] = quote(p.Data)
	out["hba_file"] = quote(hbaFile)
	out["ident_file"] = quote(identFile)
	out["unix_socket_directories"] = quote(socketDir)
	for name, value := range p.Settings {
		out[name] = quote(string(value))
	}
	return out
}

// fixed are fsync and the settings with which sov connects to its own server. They are on the
// server's command line, which overrides postgresql.auto.conf (GucSource in PostgreSQL's guc.h), so
// ALTER SYSTEM has no effect on them. With another port or pg_hba.conf, the server would run but
// never be ready.
var fixed = []string{
	"fsync", "port", "listen_addresses", "unix_socket_directories", "unix_socket_permissions", "hba_file", "ident_file",
	"ssl", "ssl_cert_file", "ssl_key_file",
}

// fixedArguments returns the arguments for the fixed settings in values.
func fixedArguments(values map[string]string) (args []string) {
	for _, name := range fixed {
		if value, ok := values[name]; ok {
			args = append(args, "-c", name+"="+unquote(value))
		}
	}
	return args
}

// authDelay is the delay of the response to a failed login, for each connection. It is a setting of
// the contrib module auth_delay.
const authDelay = "500ms"

// withLibraries adds modules to those that the recipe preloads.
func withLibraries(values map[string]string, own map[string]recipe.Setting, libraries []string) {
	const preload = "shared_preload_libraries"
	var list []string
	for _, library := range append(strings.Split(string(own[preload]), ","), libraries...) {
		if library = strings.TrimSpace(library); library != "" && !slices.Contains(list, library) {
			list = append(list, library)
		}
	}
	if len(list) > 0 {
		values[preload] = quote(strings.Join(list, ", "))
	}
}

// withAuthDelay sets the delay of auth_delay, unless the recipe does.
func withAuthDelay(values map[string]string, own map[string]recipe.Setting) {
	const delay = "auth_delay.milliseconds"
	if _, ok := own[delay]; !ok {
		values[delay] = quote(authDelay)
	}
}

// memorySettings divides the machine's memory: a quarter for PostgreSQL's cache, about a quarter
// for the kernel's cache, and the rest for about thirty sorts, a vacuum and tailscaled. The
// write-ahead log may grow to the size of the memory, but not to more than an eighth of the data
// disk.
func memorySettings(memory, data recipe.Size) map[string]string {
	megabytes := func(s recipe.Size) string { return fmt.Sprintf("%dMB", max(s/recipe.MiB, 1)) }
	return map[string]string{
		"shared_buffers":       megabytes(memory / 4),
		"effective_cache_size": megabytes(memory / 2),
		"work_mem":             megabytes(max(memory/256, 2*recipe.MiB)),
		"maintenance_work_mem": megabytes(memory / 16),
		"max_wal_size":         megabytes(max(min(memory, data/8), 64*recipe.MiB)),
		"min_wal_size":         megabytes(max(min(memory, data/8)/8, 32*recipe.MiB)),
	}
}

// quote quotes a value for postgresql.conf.
func quote(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", "''") + "'"
}

// unquote undoes quote. It returns a value without quotes unchanged.
func unquote(s string) string {
	inner, ok := strings.CutPrefix(s, "'")
	if !ok {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(strings.TrimSuffix(inner, "'"), "''", "'"), `\\`, `\`)
}

// render replaces values in a postgresql.conf, keeps its comments, and appends missing settings.
func render(template string, values map[string]string) string {
	left := maps.Clone(values)
	var b strings.Builder
	for line := range strings.Lines(template) {
		name, _, isSetting := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if value, ok := left[name]; ok && isSetting {
			line = name + " = " + value + "\n"
			delete(left, name)
		}
		b.WriteString(line)
	}
	if len(left) > 0 {
		b.WriteString("\n# From the recipe and the size of the machine.\n")
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		fmt.Fprintf(&b, "%s = %s\n", name, left[name])
	}
	return b.String()
}

// sameNetwork is pg_hba.conf's keyword for the networks of the server's own addresses.
const sameNetwork = "samenet"

// access describes how a machine's clients connect to its server.
type access struct {
	tls bool // the server can encrypt
	// standalone: the machine runs from a disk image and gets its address by DHCP. The build does
	// not know its network, and no address there is that of a host. "tap" in postgres.networks
	// therefore means the machine's own network, and where a phone allows the superuser from the
	// host, a standalone machine allows it from that network.
	standalone bool
}

// hba returns pg_hba.conf: who may connect, from where, and with which authentication. With TLS, it
// requires encryption for connections from outside the phone, and for all connections to a
// standalone machine.
func (a access) hba(r *recipe.Recipe) (string, error) {
	networks, host, err := a.addresses(r)
	if err != nil {
		return "", err
	}
	remote, fromHost := "host", "host"
	if a.tls {
		remote = "hostssl"
	}
	if a.standalone {
		fromHost = remote
	}
	var b strings.Builder
	b.WriteString("# The init sets the password of postgres through the local socket.\n")
	fmt.Fprintf(&b, "local  all  postgres  peer map=%s\n", identMap)
	if r.Postgres.Pooled() {
		fmt.Fprintf(&b, "\n# The pooler reads the verifiers of roles that log in to it.\nlocal  all  %s  peer map=%s\n", recipe.PgBouncer, identMap)
	}
	b.WriteString("\n# Services of this machine log in as their own roles, with a password.\nlocal  all  all  scram-sha-256\n")
	if r.Postgres.Superuser == recipe.SuperuserHost { // the first line that matches a connection decides
		b.WriteString("\n# The superuser may log in only from the host.\n")
		for _, address := range host {
			fmt.Fprintf(&b, "%s  all  postgres  %s  scram-sha-256\n", fromHost, address)
		}
		b.WriteString("host  all  postgres  all  reject\n")
	}
	b.WriteString("\n# Other clients connect over a network, with a password that is never sent.\n")
	if a.tls && len(host) > 0 {
		if !a.standalone {
			for _, address := range host {
				fmt.Fprintf(&b, "host  all  all  %s  scram-sha-256\n", address)
			}
		}
		b.WriteString("host  all  all  samehost  scram-sha-256\n\n# What leaves the machine's host is encrypted.\n")
	}
	for _, network := range networks {
		fmt.Fprintf(&b, "%s  all  all  %s  scram-sha-256\n", remote, network)
	}
	return b.String(), nil
}

// addresses returns the client addresses for pg_hba.conf: the networks that may connect, and the
// host if it may.
func (a access) addresses(r *recipe.Recipe) (networks, host []string, err error) {
	var known []netip.Prefix
	for _, word := range r.Postgres.Networks {
		if a.standalone && word == recipe.NetworkTAP {
			networks, host = append(networks, sameNetwork), []string{sameNetwork}
			continue
		}
		prefixes, err := expand(word, r.Network)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range prefixes { // two words may mean the same prefix
			if !slices.Contains(known, p) {
				known = append(known, p)
				networks = append(networks, p.String())
			}
		}
	}
	if !a.standalone {
		host, err = hostAddresses(r.Network, known)
	}
	return networks, host, err
}

// hostAddresses returns the host's addresses for pg_hba.conf, if any is in networks.
func hostAddresses(n recipe.Network, networks []netip.Prefix) ([]string, error) {
	p, err := netip.ParsePrefix(n.Host)
	if err != nil {
		return nil, fmt.Errorf("network.host: %w", err)
	}
	if !slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(p.Addr()) }) {
		return nil, nil
	}
	if !n.AddressUnset {
		return []string{netip.PrefixFrom(p.Addr(), p.Addr().BitLen()).String()}, nil
	}
	// The host has the first address of a /24 network in one of the pools, and no other client has
	// such an address. The mask ignores the bits that differ between these networks: hba.c compares
	// address and mask bit by bit.
	var from []string
	for _, pool := range vmspec.Pools {
		from = append(from, fmt.Sprintf("%s  255.255.224.255", pool.Addr().Next()))
	}
	return from, nil
}

// expand returns the prefixes of a word in postgres.networks.
func expand(network string, n recipe.Network) ([]netip.Prefix, error) {
	switch network {
	case recipe.NetworkTailnet:
		return []netip.Prefix{guestspec.Tailnet4, guestspec.Tailnet6}, nil
	case recipe.NetworkPeers:
		return vmspec.Pools, nil
	case recipe.NetworkTAP:
		if n.AddressUnset { // the guest's firewall knows the network and drops other packets
			return vmspec.Pools, nil
		}
		network = n.Host
	}
	p, err := netip.ParsePrefix(network)
	if err != nil {
		return nil, fmt.Errorf("postgres.networks: %w", err)
	}
	return []netip.Prefix{p.Masked()}, nil
}

func ident(p recipe.Postgres) string {
	text := fmt.Sprintf("# Map, system user, role.\n%[1]s  %[2]s  postgres\n%[1]s  root  postgres\n", identMap, p.User)
	if p.Pooled() {
		text += fmt.Sprintf("%s  %s  %[2]s\n", identMap, recipe.PgBouncer)
	}
	return text
}
