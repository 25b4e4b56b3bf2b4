package main

import (
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A machine is what the flags describe.
type machine struct {
	kernel  string
	params  []string
	mem     int // MiB
	cpus    int
	disks   []disk
	tap     string
	mac     string
	socket  string
	console string
	early   string // file of the serial port that is the kernel's early console
}

type disk struct {
	path     string
	readOnly bool
}

// A dialect is the flags that a version of crosvm knows, each with what reads its value; nil takes none.
type dialect map[string]func(*machine, string) error

// dialects by whether the version is an old one. What both know is added below.
var dialects = map[bool]dialect{
	false: {"--block": block, "--net": network, "--name": ignore, "--vsock": vsock},
	true:  {"--disk": oldDisk(true), "--rwdisk": oldDisk(false), "--tap-name": tapName, "--cid": number},
}

func init() {
	for _, d := range dialects {
		maps.Copy(d, dialect{"--disable-sandbox": nil, "--mem": memory, "--cpus": processors, "--params": params,
			"--socket": socket, "--serial": serial})
	}
}

func (d dialect) help() string {
	var b strings.Builder
	b.WriteString("Usage: crosvm run [options] KERNEL\n\nOptions:\n")
	for _, name := range slices.Sorted(maps.Keys(d)) {
		fmt.Fprintf(&b, "  %s\n", name)
	}
	return b.String()
}

func (d dialect) parse(args []string) (*machine, error) {
	m := &machine{mem: 256, cpus: 1}
	for len(args) > 0 {
		name := args[0]
		args = args[1:]
		if !strings.HasPrefix(name, "-") {
			if m.kernel != "" {
				return nil, fmt.Errorf("%w: unrecognized argument: %s: the kernel is %s already", errArguments, name, m.kernel)
			}
			m.kernel = name
			continue
		}
		name, value, inline := strings.Cut(name, "=")
		read, known := d[name]
		switch {
		case !known:
			return nil, fmt.Errorf("%w: unrecognized argument: %s", errArguments, name)
		case read == nil && inline:
			return nil, fmt.Errorf("%w: %s takes no value", errArguments, name)
		case read == nil:
			continue
		case !inline && len(args) == 0:
			return nil, fmt.Errorf("%w: no value provided for option '%s'", errArguments, name)
		case !inline:
			value, args = args[0], args[1:]
		}
		if err := read(m, value); err != nil {
			return nil, fmt.Errorf("%w: %s %s: %w", errArguments, name, value, err)
		}
	}
	if m.kernel == "" {
		return nil, fmt.Errorf("%w: no kernel", errArguments)
	}
	return m, nil
}

// keys splits the parts of a value, such as path=X,ro, and refuses a key that is not known.
func keys(value string, known ...string) (map[string]string, error) {
	out := map[string]string{}
	for _, part := range strings.Split(value, ",") {
		key, v, _ := strings.Cut(part, "=")
		if !slices.Contains(known, key) {
			return nil, fmt.Errorf("unknown field `%s`, expected one of %s", key, strings.Join(known, ", "))
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("duplicate field `%s`", key)
		}
		out[key] = v
	}
	return out, nil
}

func block(m *machine, value string) error {
	if !strings.Contains(strings.SplitN(value, ",", 2)[0], "=") {
		value = "path=" + value
	}
	k, err := keys(value, "path", "ro", "root", "sparse", "direct", "id", "block-size", "async-executor")
	if err != nil {
		return err
	}
	return m.attach(k["path"], has(k, "ro"))
}

func (m *machine) attach(path string, readOnly bool) error {
	mode := os.O_RDWR
	if readOnly {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return fmt.Errorf("failed to open disk image: %w", err)
	}
	m.disks = append(m.disks, disk{path, readOnly})
	return f.Close()
}

func has(k map[string]string, key string) bool {
	value, ok := k[key]
	return ok && value != "false"
}

func oldDisk(readOnly bool) func(*machine, string) error {
	return func(m *machine, value string) error {
		path, rest, _ := strings.Cut(value, ",")
		if _, err := keys(rest, "", "sparse", "o_direct", "id"); err != nil {
			return err
		}
		return m.attach(path, readOnly)
	}
}

func network(m *machine, value string) error {
	k, err := keys(value, "tap-name", "mac", "vq-pairs", "vhost-net", "packed-queue")
	if err != nil {
		return err
	}
	if mac, ok := k["mac"]; ok {
		if _, err := net.ParseMAC(mac); err != nil {
			return err
		}
	}
	m.mac = k["mac"]
	return tapName(m, k["tap-name"])
}

func tapName(m *machine, value string) error {
	if _, err := net.InterfaceByName(value); err != nil {
		return fmt.Errorf("failed to open tap device: %w", err)
	}
	m.tap = value
	return nil
}

func memory(m *machine, value string) (err error) {
	m.mem, err = strconv.Atoi(strings.TrimPrefix(value, "size="))
	return err
}

func processors(m *machine, value string) (err error) {
	m.cpus, err = strconv.Atoi(strings.TrimPrefix(value, "num-cores="))
	return err
}

func number(_ *machine, value string) error {
	_, err := strconv.ParseUint(value, 10, 32)
	return err
}

func vsock(_ *machine, value string) error { return number(nil, strings.TrimPrefix(value, "cid=")) }

func params(m *machine, value string) error {
	m.params = append(m.params, value)
	return nil
}

func socket(m *machine, value string) error {
	m.socket = value
	return nil
}

func ignore(*machine, string) error { return nil }

func serial(m *machine, value string) error {
	k, err := keys(value, "type", "hardware", "num", "path", "input", "console", "earlycon", "stdin", "out_timestamp", "name")
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"file", "stdout", "sink", "syslog", "unix"}, k["type"]) {
		return fmt.Errorf("unknown variant `%s`", k["type"])
	}
	if hw := k["hardware"]; !slices.Contains([]string{"", "serial", "virtio-console", "debugcon"}, hw) {
		return fmt.Errorf("unknown variant `%s`", hw)
	}
	if k["type"] == "file" && k["hardware"] == "virtio-console" && has(k, "console") {
		if k["path"] == "" {
			return fmt.Errorf("file path is required")
		}
		m.console = k["path"]
	}
	if k["type"] == "file" && (k["hardware"] == "" || k["hardware"] == "serial") && has(k, "earlycon") {
		m.early = k["path"]
	}
	return nil
}
