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

// script prints the facts, one NAME=VALUE per line. Its argument is sov's folder, which need not
// exist yet. It uses only programs that both Android's toybox and a Linux server have.
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
	printf '%s\n' "$help" | grep -E '^ {1,8}(-., )?--' | cut -c 1-60 | sed 's/^/flag=/'
	say crosvm_said "$(printf '%s\n' "$help" | grep -v '^ *$' | tail -n 1)"
fi
for d in kvm gunyah gzvm; do if [ -c /dev/$d ]; then say hypervisor $d; fi; done
if [ -c /dev/net/tun ] || [ -c /dev/tun ]; then say tun 1; fi
f=$1
while [ ! -d "$f" ]; do f=${f%/*}; [ -n "$f" ] || f=/; done
say folder "$f"
say free "$(stat -f -c '%a %S' "$f")"` + managers()

// managers is the part of the script that prints the installed root managers.
func managers() string {
	var out strings.Builder
	for _, m := range phonepath.RootManagers {
		fmt.Fprintf(&out, "\nif [ -e %s ]; then say manager %s; fi", m.Busybox, m.Name)
	}
	return out.String()
}

// facts are the properties of a phone that the script prints.
type facts struct {
	root    bool   // the answers are root's
	noRoot  string // why not
	machine string // as uname -m
	kernel  string // release
	linux   string // release of the distribution if it is not Android
	manager []string
	android string // version
	sdk     int    // API level
	model   string
	crosvm  string // path
	there   bool   // crosvm is
	help    string // lines of crosvm's help that name a flag
	said    string // last line of crosvm's help, or of the error
	avf     avf.Phone
	tun     bool
	folder  string                 // deepest existing folder on the path to sov's folder
	free    int64                  // bytes there
	vms     map[string]avf.Options // options of machines in the runner's settings
	arch    string                 // architecture that crosvm runs, if set in the runner's settings
}

const (
	maxAnswer = 64 << 10 // bytes of what the script prints
	maxValue  = 256      // bytes of a value
)

// parse parses the output of the script. It ignores lines that it cannot parse; the check for the
// fact then fails.
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

// product multiplies two numbers, such as blocks and their size; 0 if one is not a number or the
// product overflows.
func product(text string) int64 {
	a, b, _ := strings.Cut(text, " ")
	blocks, err := strconv.ParseInt(a, 10, 64)
	size, err2 := strconv.ParseInt(b, 10, 64)
	if err != nil || err2 != nil || blocks < 0 || size <= 0 || blocks > (1<<62)/size {
		return 0
	}
	return blocks * size
}

// ask runs the script on a phone, as root if possible.
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

// settings are the runner's settings that affect the checks.
type settings struct {
	Crosvm string                 `json:"crosvm"`
	Arch   string                 `json:"arch"`
	VMs    map[string]avf.Options `json:"vms"`
}

// askSettings reads the runner's settings. If they cannot be read, it returns none: the runner
// reports why.
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
