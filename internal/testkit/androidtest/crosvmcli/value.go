package crosvmcli

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A key is a key of a value of the form KEY=VALUE,….
type key struct {
	name, alias string
	kind        string // "str", "bool", "int", "any", or the variants, separated by |
	since       string // day of the commit that added it; empty: before Android 13
	required    bool
}

// A record is a type whose values are lists of keys.
type record struct {
	bare bool // the first key's name may be omitted
	keys []key
}

// records maps the types that serde_keyvalue parses to their keys, with the days on which keys were
// added.
var records = map[string]record{
	"DiskOptionWithId": {true, []key{{name: "path", kind: "str", required: true}, {name: "ro", kind: "bool"}, {name: "root", kind: "bool"}, {name: "sparse", kind: "bool"},
		{name: "block-size", alias: "block_size", kind: "int"}, {name: "id", kind: "str"}, {name: "direct", alias: "o_direct", kind: "bool"},
		{name: "async-executor", alias: "async_executor", kind: "epoll|uring", since: "2022-12-02"}, {name: "multiple-workers", kind: "bool", since: "2023-03-03"},
		{name: "packed-queue", kind: "bool", since: "2023-07-25"}, {name: "bootindex", kind: "int", since: "2023-08-18"}, {name: "pci-address", kind: "str", since: "2024-02-29"},
		{name: "lock", kind: "bool", since: "2024-09-10"}, {name: "dontcache", kind: "bool", since: "2026-07-28"}}},
	"NetParameters": {false, []key{{name: "tap-name", kind: "str"}, {name: "tap-fd", kind: "int"}, {name: "host-ip", kind: "ip"}, {name: "netmask", kind: "ip"},
		{name: "mac", kind: "mac"}, {name: "vq-pairs", kind: "int"}, {name: "vhost-net", kind: "any"}, {name: "packed-queue", kind: "bool", since: "2024-02-29"},
		{name: "pci-address", kind: "str", since: "2024-02-29"}}},
	"SerialParameters": {false, []key{{name: "type", kind: "file|stdout|sink|syslog|unix|unix-stream"}, {name: "hardware", kind: "serial|virtio-console|debugcon|legacy-virtio-console"},
		{name: "num", kind: "int"}, {name: "path", kind: "str"}, {name: "input", kind: "str"}, {name: "console", kind: "bool"}, {name: "earlycon", kind: "bool"},
		{name: "stdin", kind: "bool"}, {name: "out-timestamp", alias: "out_timestamp", kind: "bool"}, {name: "debugcon-port", alias: "debugcon_port", kind: "int", since: "2022-05-26"},
		{name: "name", kind: "str", since: "2023-11-21"}, {name: "pci-address", kind: "str", since: "2024-02-26"},
		{name: "input-unix-stream", kind: "bool", since: "2024-11-27"}, {name: "max-queue-sizes", kind: "any", since: "2025-04-03"}}},
	"MemOptions": {true, []key{{name: "size", kind: "int"}}},
	"CpuOptions": {true, []key{{name: "num-cores", kind: "int"}, {name: "clusters", kind: "any"}, {name: "core-types", kind: "any"}, {name: "boot-cpu", kind: "int", since: "2024-02-29"},
		{name: "freq_domains", kind: "any", since: "2024-02-29"}, {name: "sve", kind: "[enable=bool]", since: "2024-10-16"}}},
	"VsockConfig": {true, []key{{name: "cid", kind: "int", required: true}, {name: "device", kind: "str"}}},
	"PmemOption":  {true, []key{{name: "path", kind: "str", required: true}, {name: "ro", kind: "bool"}, {name: "root", kind: "bool"}, {name: "vma-size", kind: "int"}, {name: "swap-interval-ms", kind: "int"}}},
	"PciConfig":   {false, []key{{name: "mem", kind: "any"}, {name: "cam", kind: "any"}, {name: "ecam", kind: "any"}}},
	"Pstore":      {false, []key{{name: "path", kind: "str", required: true}, {name: "size", kind: "int", required: true}}},
	"DtboOption":  {true, []key{{name: "path", kind: "str", required: true}, {name: "filter", kind: "bool"}, {name: "select-symbols", kind: "any"}}},
}

// variants maps variants that are newer than their type to the days on which they were added.
var variants = map[string]string{"debugcon": "2022-05-26", "unix-stream": "2024-11-27"}

// record parses a value of a type in records, and returns the values by key.
func (r Release) record(kind, value string) (map[string]string, error) {
	known := records[kind]
	parts, err := split(value)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for i, part := range parts {
		name, text, hasValue := cutKey(part)
		if known.bare && i == 0 && (!hasValue || r == Android13) { // Android 13 supports disks only as PATH[,KEY=VALUE]
			name, text, hasValue = known.keys[0].name, part, true
		}
		at := slices.IndexFunc(known.keys, func(k key) bool {
			return (k.name == name || k.alias != "" && k.alias == name) && k.since <= upstream[r]
		})
		if at < 0 {
			return nil, fmt.Errorf("unknown field `%s`", name)
		}
		k := known.keys[at]
		if !hasValue {
			if k.kind != "bool" && k.name != "vhost-net" || r == Android13 {
				return nil, fmt.Errorf("expected '=' after `%s`", name)
			}
			text = "true"
		}
		if text, err = unquote(text); err != nil {
			return nil, err
		}
		if _, twice := out[k.name]; twice {
			return nil, fmt.Errorf("duplicate field `%s`", name)
		}
		if err := r.check(k, text); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[k.name] = text
	}
	for _, k := range known.keys {
		if _, there := out[k.name]; k.required && !there {
			return nil, fmt.Errorf("missing field `%s`", k.name)
		}
	}
	return out, nil
}

// check validates the value of a key.
func (r Release) check(k key, text string) error {
	switch k.kind {
	case "any":
		return nil
	case "str":
		if k.name == "id" && len(text) > 20 {
			return fmt.Errorf("disk id must be 20 or fewer characters")
		}
		return nil
	case "bool":
		_, err := parseBool(text)
		return err
	case "int":
		_, err := parseInt(text)
		return err
	case "ip":
		if a, err := netip.ParseAddr(text); err != nil || !a.Is4() {
			return fmt.Errorf("invalid IPv4 address syntax")
		}
		return nil
	case "mac":
		_, err := net.ParseMAC(text)
		return err
	case "[enable=bool]":
		if text != "[enable=true]" && text != "[enable=false]" {
			return fmt.Errorf("unknown field in %s", text)
		}
		return nil
	}
	if !slices.Contains(strings.Split(k.kind, "|"), text) || variants[text] > upstream[r] {
		return fmt.Errorf("unknown variant `%s`, expected one of %s", text, k.kind)
	}
	return nil
}

// cutKey splits KEY=VALUE. A value in quotes or brackets has no key.
func cutKey(part string) (name, value string, ok bool) {
	if strings.HasPrefix(part, "'") || strings.HasPrefix(part, `"`) || strings.HasPrefix(part, "[") {
		return part, "", false
	}
	return strings.Cut(part, "=")
}

// split splits a value at the commas outside quotes and brackets.
func split(value string) ([]string, error) {
	var parts []string
	var quote rune
	depth, start, escaped := 0, 0, false
	for i, c := range value {
		switch {
		case escaped:
			escaped = false
		case quote != 0 && c == '\\':
			escaped = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
		case c == '\'' || c == '"':
			quote = c
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ',' && depth == 0:
			parts = append(parts, value[start:i])
			start = i + 1
		}
	}
	if quote != 0 || depth != 0 {
		return nil, fmt.Errorf("unterminated string or bracket")
	}
	return append(parts, value[start:]), nil
}

func unquote(text string) (string, error) {
	if text == "" || text[0] != '\'' && text[0] != '"' {
		return text, nil
	}
	if len(text) < 2 || text[len(text)-1] != text[0] {
		return "", fmt.Errorf("text after a quoted string: %s", text)
	}
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\'`, `'`).Replace(text[1 : len(text)-1]), nil
}

func parseBool(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, fmt.Errorf("expected boolean, got `%s`", text)
	}
	return text == "true", nil
}

// parseInt parses a number as serde_keyvalue does: decimal, or with a prefix 0x, 0o or 0b.
func parseInt(text string) (uint64, error) {
	return strconv.ParseUint(text, 0, 64)
}

var (
	cpuSet     = regexp.MustCompile(`^\d+(-\d+)?(,\d+(-\d+)?)*$`)
	affinity   = regexp.MustCompile(`^\d+=\d+(-\d+)?(,\d+(-\d+)?)*(:\d+=\d+(-\d+)?(,\d+(-\d+)?)*)*$`)
	hypervisor = regexp.MustCompile(`^(kvm|geniezone|gunyah)(?:\[device=([^\],]+)\])?$`)
)

// checkValue validates an option's value as the release's parser does, before the value is used.
func (r Release) checkValue(f Flag, value string) (err error) {
	bits := map[string]int{"u8": 8, "u16": 16, "u32": 32, "u64": 64, "usize": 64}
	switch kind := f.Value; {
	case kind == "MemOptions" && r == Android13, kind == "CpuOptions" && r == Android13:
		_, err = strconv.ParseUint(value, 10, 32)
	case records[kind].keys != nil:
		_, err = r.record(kind, value)
	case bits[kind] > 0:
		_, err = strconv.ParseUint(value, 10, bits[kind])
	case kind == "i64" || kind == "i32" || kind == "RawDescriptor":
		_, err = strconv.ParseInt(value, 10, 32)
	case kind == "bool":
		_, err = parseBool(value)
	case kind == "std::net::Ipv4Addr":
		err = r.check(key{kind: "ip"}, value)
	case kind == "net_util::MacAddress":
		err = r.check(key{kind: "mac"}, value)
	case kind == "HypervisorKind" && !hypervisor.MatchString(value):
		err = fmt.Errorf("unknown variant `%s`, expected one of `kvm`, `geniezone`, `gunyah`", value)
	case kind == "CpuSet" && !cpuSet.MatchString(value),
		kind == "VcpuAffinity" && !cpuSet.MatchString(value) && !affinity.MatchString(value):
		err = fmt.Errorf("invalid CPU list")
	case kind == "FdtPosition" && !slices.Contains([]string{"start", "end", "after-payload"}, value):
		err = fmt.Errorf("unknown variant `%s`", value)
	}
	return err
}
