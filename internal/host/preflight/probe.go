package preflight

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/avf"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/device"
)

// script prints what is looked at, NAME=VALUE a line. It takes the folder that holds everything,
// which may not be there yet, and uses what both Android's toybox and a Linux server have.
var script = `say() { printf '%s=%s\n' "$1" "$2"; }
say machine "$(uname -m)"
say kernel "$(uname -r)"
if command -v getprop >/dev/null 2>&1; then
	say android "$(getprop ro.build.version.release)"
	say sdk "$(getprop ro.build.version.sdk)"
	say model "$(getprop ro.product.model)"
	say hypervisor_version "$(getprop ro.boot.hypervisor.version)"
	say hypervisor_vm "$(getprop ro.boot.hypervisor.vm.supported)"
	say hypervisor_protected "$(getprop ro.boot.hypervisor.protected_vm.supported)"
	say soc "$(getprop ro.soc.model)"
else
	say linux "$(uname -r)"
fi
c=$2
[ -n "$c" ] || c=/apex/com.android.virt/bin/crosvm
say crosvm "$c"
if [ -f "$c" ] && [ -x "$c" ]; then
	say crosvm_there 1
	help=$("$c" run --help 2>&1) || help=$(LD_LIBRARY_PATH=/apex/com.android.virt/lib64:/system/lib64 "$c" run --help 2>&1)
	printf '%s\n' "$help" | grep -E '^ {1,8}(-., )?--' | cut -c 1-60 | while IFS= read -r line; do say flag "$line"; done
	say crosvm_said "$(printf '%s\n' "$help" | grep -v '^ *$' | tail -n 1)"
fi
for d in kvm gunyah gzvm; do if [ -c /dev/$d ]; then say hypervisor $d; fi; done
if [ -c /dev/net/tun ] || [ -c /dev/tun ]; then say tun 1; fi
f=$1
while [ ! -d "$f" ]; do f=${f%/*}; [ -n "$f" ] || f=/; done
say folder "$f"
say free "$(stat -f -c '%a %S' "$f")"` + managers()

// managers is a part of the script that names the root managers whose programs are there.
func managers() string {
	var out strings.Builder
	for _, m := range phonepath.RootManagers {
		fmt.Fprintf(&out, "\nif [ -e %s ]; then say manager %s; fi", m.Busybox, m.Name)
	}
	return out.String()
}

// facts are what a phone says of itself.
type facts struct {
	root    bool   // the answers are root's
	noRoot  string // why not
	machine string // as uname -m
	kernel  string // release
	linux   string // release of a computer that is no Android
	manager []string
	android string // version
	sdk     int    // API level
	model   string
	crosvm  string // path
	there   bool   // crosvm is
	help    string // lines of its help that name a flag
	said    string // the last line of that, or of why it did not run
	avf     avf.Phone
	tun     bool
	folder  string                 // that exists, of those on the way to everything
	free    int64                  // bytes there
	vms     map[string]avf.Options // what the runner's settings say of machines
	arch    string                 // of what crosvm runs, where the runner's settings say so
}

const (
	maxAnswer = 64 << 10 // bytes of what the script prints
	maxValue  = 256      // bytes of a value
)

// parse reads what the script printed. What is not understood is left out: it is then missed.
func parse(text []byte) (facts, error) {
	var f facts
	if len(text) > maxAnswer {
		return f, fmt.Errorf("the answer of %d bytes is not valid", len(text))
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), "=")
		if !ok || len(value) > maxValue {
			continue
		}
		f.set(name, device.Printable(value))
	}
	return f, lines.Err()
}

func (f *facts) set(name, value string) {
	switch name {
	case "machine":
		f.machine = value
	case "kernel":
		f.kernel = value
	case "linux":
		f.linux = value
	case "manager":
		if len(f.manager) < len(phonepath.RootManagers) {
			f.manager = append(f.manager, value)
		}
	case "android":
		f.android = value
	case "sdk":
		f.sdk, _ = strconv.Atoi(value)
	case "model":
		f.model = value
	case "crosvm":
		f.crosvm = value
	case "crosvm_there":
		f.there = value == "1"
	case "flag":
		f.help += value + "\n"
	case "crosvm_said":
		f.said = value
	case "hypervisor":
		if len(f.avf.Devices) < 3 {
			f.avf.Devices = append(f.avf.Devices, value)
		}
	case "hypervisor_version":
		f.avf.Version = value
	case "hypervisor_vm":
		f.avf.VM = value
	case "hypervisor_protected":
		f.avf.Protected = value
	case "soc":
		f.avf.SoC = value
	case "tun":
		f.tun = value == "1"
	case "folder":
		f.folder = value
	case "free":
		f.free = product(value)
	}
}

// product multiplies two numbers, such as blocks and their size; 0 for what is none, or is too
// large.
func product(text string) int64 {
	a, b, _ := strings.Cut(text, " ")
	blocks, err := strconv.ParseInt(a, 10, 64)
	size, err2 := strconv.ParseInt(b, 10, 64)
	if err != nil || err2 != nil || blocks < 0 || size <= 0 || blocks > (1<<62)/size {
		return 0
	}
	return blocks * size
}

// ask asks a phone, as root where that can be had.
func ask(ctx context.Context, p device.Phone) (facts, error) {
	settings, err := askSettings(ctx, p)
	var root *device.RootError
	if err != nil && !errors.As(err, &root) {
		return facts{}, err
	}
	var out bytes.Buffer
	err = p.Run(ctx, device.Command{
		Args:   []string{"sh", "-c", script, "sh", string(p.Root()), settings.Crosvm},
		Stdout: &out, AsShell: root != nil,
	})
	if err != nil {
		return facts{}, err
	}
	f, err := parse(out.Bytes())
	if err != nil {
		return facts{}, fmt.Errorf("%s: %w", p.Name(), err)
	}
	f.root, f.arch, f.vms = root == nil, settings.Arch, settings.VMs
	if root != nil {
		f.noRoot = root.Said
	}
	return f, nil
}

// settings are those of the runner's that decide what is needed of the phone.
type settings struct {
	Crosvm string                 `json:"crosvm"`
	Arch   string                 `json:"arch"`
	VMs    map[string]avf.Options `json:"vms"`
}

// askSettings reads the runner's settings. Where they cannot be read, the runner itself will say
// why.
func askSettings(ctx context.Context, p device.Phone) (settings, error) {
	var s settings
	var exit *device.ExitError
	text, err := device.ReadFile(ctx, p, p.Root().Settings())
	if errors.As(err, &exit) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if json.Unmarshal(text, &s) != nil {
		return settings{}, nil
	}
	return s, nil
}
