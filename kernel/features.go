package kernel

import "slices"

// Features are the optional parts of a machine that need kernel options.
type Features struct {
	Tailscale  bool
	Encryption bool // of the data disk or a volume
	Postgres   bool
	Disk       bool // it boots from a disk image, by UEFI
}

// AllFeatures has every feature. The kernel that sov compiles supports all of them, so one kernel
// fits every machine.
var AllFeatures = Features{Tailscale: true, Encryption: true, Postgres: true, Disk: true}

// firewall lists what the guest's own firewall needs. Tailscale's firewall needs some of these
// options too.
var firewall = []Requirement{
	{"NETFILTER", "", "The guest's firewall could not see any packet, and sov-init would not open the network without it."},
	{"NF_CONNTRACK", "", "The guest's firewall could not tell the replies of a connection from unrelated packets."},
	{"NF_TABLES", "", "The guest's firewall is a table of nf_tables, and sov-init would not open the network without it."},
	{"NF_TABLES_INET", "", "The guest's firewall is one table for IPv4 and IPv6, which nf_tables would not have."},
	{"NFT_CT", "", "The guest's firewall could not match the state of a connection."},
	{"NFT_LIMIT", "", "The guest's firewall could not limit the rate of connections, and would be refused as a whole."},
}

// disk lists what a machine that boots from a disk image needs in addition.
var disk = []Requirement{
	{"EFI_STUB", "", "UEFI could not start the kernel of a disk image."},
	{"EFI_PARTITION", "", "A disk image has a GPT, and the kernel would not find its partitions."},
	{"ACPI", "arm64", "UEFI describes the devices of most machines by ACPI, and the kernel would not find any."},
	{"PACKET", "", "A machine that boots from a disk image asks for its address by DHCP, which needs packet sockets."},
}

// Options in the list of requirements that only machines with a feature need.
var (
	ofTailscale = []string{
		"TUN", "IP_ADVANCED_ROUTER", "IP_MULTIPLE_TABLES", "NF_NAT", "NF_TABLES_IPV4", "NFT_NAT", "NFT_MASQ", "NFT_COMPAT",
		"NETFILTER_XT_MARK", "NETFILTER_XT_CONNMARK", "NETFILTER_XT_MATCH_CONNTRACK", "NETFILTER_XT_TARGET_MASQUERADE",
	}
	ofEncryption = []string{"DM_CRYPT", "CRYPTO_AES", "CRYPTO_XTS"}
	ofPostgres   = []string{"SYSVIPC", "SIGNALFD"}
)

// Requirements returns what a guest of an architecture ("arm64" or "amd64") with these features
// needs.
func Requirements(arch string, f Features) []Requirement {
	list := slices.DeleteFunc(ofArch(arch, requirements), func(r Requirement) bool {
		return !f.Tailscale && slices.Contains(ofTailscale, r.Option) ||
			!f.Encryption && slices.Contains(ofEncryption, r.Option) ||
			!f.Postgres && slices.Contains(ofPostgres, r.Option) ||
			slices.ContainsFunc(firewall, func(own Requirement) bool { return own.Option == r.Option })
	})
	list = append(list, ofArch(arch, firewall)...)
	if f.Disk {
		list = append(list, ofArch(arch, disk)...)
	}
	return list
}
