package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	names "github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/avf"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// Settings are the runner's own, of this phone and not of an artifact: settings.json, which may be
// absent. Times are in seconds.
type Settings struct {
	Crosvm          string                `json:"crosvm,omitempty"`           // program; empty: Android's
	IPTables        string                `json:"iptables,omitempty"`         // program; empty: Android's, else the one in PATH
	Arch            string                `json:"arch,omitempty"`             // of the machines that crosvm runs; empty: this program's own
	Uplink          string                `json:"uplink,omitempty"`           // interface; empty or "auto": Android's default network
	BootTimeout     int                   `json:"boot_timeout,omitempty"`     // for Android to start; 0: 600
	ShutdownTimeout int                   `json:"shutdown_timeout,omitempty"` // for the guest's orderly shutdown; 0: 60
	CrashLoop       int                   `json:"crash_loop,omitempty"`       // failures in a row after which a machine is left alone; 0: 5
	BatteryStop     int                   `json:"battery_stop,omitempty"`     // charge in percent below which machines are stopped; 0: 5, -1: never
	LiftPhantoms    bool                  `json:"lift_phantoms,omitempty"`    // turn Android's phantom-process killer off, for all apps
	KeepPhantoms    bool                  `json:"keep_phantoms,omitempty"`    // of earlier versions: what is the default now
	VMs             map[string]VMSettings `json:"vms,omitempty"`              // by name
}

// VMSettings override what an artifact says of one machine.
type VMSettings struct {
	MemoryMiB int            `json:"memory_mib,omitempty"`
	CPUs      int            `json:"cpus,omitempty"`
	DataMiB   int64          `json:"data_mib,omitempty"` // the data disk is made, or enlarged, to this; never made smaller
	Routing   vmspec.Routing `json:"routing,omitempty"`
	Awake     vmspec.Awake   `json:"awake,omitempty"`
	avf.Options
}

const (
	defaultBootTimeout     = 600
	defaultShutdownTimeout = 60
	defaultCrashLoop       = 5
	maxSettings            = 1 << 20 // bytes
)

func (s Settings) bootTimeout() time.Duration { return seconds(s.BootTimeout, defaultBootTimeout) }
func (s Settings) shutdownTimeout() time.Duration {
	return seconds(s.ShutdownTimeout, defaultShutdownTimeout)
}

func (s Settings) arch() string {
	if s.Arch == "" {
		return runtime.GOARCH
	}
	return s.Arch
}

func seconds(n, otherwise int) time.Duration {
	if n == 0 {
		n = otherwise
	}
	return time.Duration(n) * time.Second
}

func (s Settings) batteryStop() int {
	if s.BatteryStop == 0 {
		return defaultBatteryStop
	}
	return s.BatteryStop
}

func (s Settings) crashLoop() int {
	if s.CrashLoop == 0 {
		return defaultCrashLoop
	}
	return s.CrashLoop
}

// loadSettings reads the settings file. It refuses one that others than root can write, and one
// that names programs, which run as root, that others can replace.
func loadSettings(root phonepath.Root) (Settings, error) {
	var s Settings
	text, err := readTrusted(string(root), root.Settings(), maxSettings)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("settings: %w", err)
	}
	if s, err = decodeSettings(text); err != nil {
		return s, err
	}
	return s, s.checkPrograms()
}

// settingsOrDefaults is loadSettings for what has to go on whatever the file says, such as a stop.
// Settings that cannot be used are reported, and the defaults hold.
func settingsOrDefaults(root phonepath.Root, report func(string)) Settings {
	s, err := loadSettings(root)
	if err != nil {
		report(fmt.Sprintf("warning: %v: going on with the default settings", err))
		return Settings{}
	}
	return s
}

func decodeSettings(text []byte) (Settings, error) {
	var s Settings
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("settings.json: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return s, errors.New("settings.json: there is text after the object")
	}
	for _, n := range []int{s.BootTimeout, s.ShutdownTimeout, s.CrashLoop} {
		if n < 0 || n > 86400 {
			return s, fmt.Errorf("settings.json: %d is not between 0 and 86400", n)
		}
	}
	if s.BatteryStop < -1 || s.BatteryStop > 100-batteryMargin {
		return s, fmt.Errorf("settings.json: battery_stop is %d, not between -1 and %d", s.BatteryStop, 100-batteryMargin)
	}
	for name, vm := range s.VMs {
		if !vm.Awake.Valid() {
			return s, fmt.Errorf("settings.json: vms.%s: awake is %q: must be always, charging or never", name, vm.Awake)
		}
		if vm.DataMiB != 0 && (vm.DataMiB < datadisk.MinSize>>20 || vm.DataMiB > datadisk.MaxSize>>20) {
			return s, fmt.Errorf("settings.json: vms.%s: data_mib is %d, not between %d and %d", name, vm.DataMiB, datadisk.MinSize>>20, datadisk.MaxSize>>20)
		}
		if err := names.CheckName(name); err != nil {
			return s, fmt.Errorf("settings.json: vms: %w", err)
		}
		if err := vm.Options.Validate(); err != nil {
			return s, fmt.Errorf("settings.json: vms.%s: %w", name, err)
		}
		if vm.MemoryMiB < 0 || vm.CPUs < 0 ||
			vm.Routing != "" && !vm.Routing.Valid() {
			return s, fmt.Errorf("settings.json: vms.%s: memory_mib, cpus or routing (%s, %s, %s) is not valid", name, vmspec.Auto, vmspec.Scoped, vmspec.MainFirst)
		}
	}
	return s, nil
}

// apply overrides what an artifact says.
func (s Settings) apply(spec *vmspec.Spec) {
	vm := s.VMs[spec.Name]
	if vm.MemoryMiB > 0 {
		spec.MemoryMiB = vm.MemoryMiB
	}
	if vm.CPUs > 0 {
		spec.CPUs = vm.CPUs
	}
	for i := range spec.Disks {
		if spec.Disks[i].Role == vmspec.RoleData && vm.DataMiB > 0 {
			spec.Disks[i].Size = vm.DataMiB << 20
		}
	}
	spec.Options = vm.Options.Over(spec.Options)
	if vm.Routing != "" {
		spec.Network.Routing = vm.Routing
	}
	if vm.Awake != "" {
		spec.Awake = vm.Awake
	}
	if spec.Awake == "" {
		spec.Awake = vmspec.AwakeAlways
	}
}

// programs are those that the settings name, which are run as root.
func (s Settings) programs() []string {
	var out []string
	for _, p := range []string{s.Crosvm, s.IPTables} {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}

// checkPrograms refuses programs that others than root can change, or replace in their folder.
func (s Settings) checkPrograms() error {
	for _, program := range s.programs() {
		if !filepath.IsAbs(program) {
			return fmt.Errorf("settings.json: %s does not begin with /", program)
		}
		for _, path := range []string{program, filepath.Dir(program)} {
			info, err := os.Stat(path)
			if err == nil {
				err = onlyRootWrites(path, info)
			}
			if err != nil {
				return fmt.Errorf("settings.json: %w", err)
			}
		}
	}
	return nil
}
