package daemon

import (
	"errors"
	"fmt"
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
	"github.com/sovereign-sql/sov/internal/strictjson"
)

// Settings are the runner's settings on this phone, independent of artifacts: settings.json, which
// may be missing. Times are in seconds.
type Settings struct {
	Crosvm          string                `json:"crosvm,omitempty"`           // program; empty: Android's
	IPTables        string                `json:"iptables,omitempty"`         // program; empty: Android's, else the one in PATH
	Arch            string                `json:"arch,omitempty"`             // architecture of machines; empty: this program's
	Uplink          string                `json:"uplink,omitempty"`           // interface; empty or "auto": Android's default network
	BootTimeout     int                   `json:"boot_timeout,omitempty"`     // for Android to start; 0: 600
	ShutdownTimeout int                   `json:"shutdown_timeout,omitempty"` // for the guest's orderly shutdown; 0: 60
	CrashLoop       int                   `json:"crash_loop,omitempty"`       // consecutive failures after which a machine is not restarted; 0: 5
	BatteryStop     int                   `json:"battery_stop,omitempty"`     // charge in percent below which machines are stopped; 0: 5, -1: never
	LiftPhantoms    bool                  `json:"lift_phantoms,omitempty"`    // disable Android's phantom-process killer, for all apps
	KeepPhantoms    bool                  `json:"keep_phantoms,omitempty"`    // in earlier versions; now the default
	VMs             map[string]VMSettings `json:"vms,omitempty"`              // by name
}

// VMSettings override an artifact's configuration of one machine.
type VMSettings struct {
	MemoryMiB int            `json:"memory_mib,omitempty"`
	CPUs      int            `json:"cpus,omitempty"`
	DataMiB   int64          `json:"data_mib,omitempty"` // size of the data disk, which is created or enlarged, never reduced
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

// loadSettings reads the settings file. It refuses a file that users other than root can write, or
// that names programs (which run as root) that other users can replace.
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

// settingsOrDefaults is loadSettings for operations that must not fail because of the file, such as
// a stop. It reports unusable settings and returns the defaults.
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
	if err := strictjson.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("settings.json: %w", err)
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

// apply overrides the values of an artifact.
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

// programs returns the programs in the settings, which run as root.
func (s Settings) programs() []string {
	var out []string
	for _, p := range []string{s.Crosvm, s.IPTables} {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}

// checkPrograms returns an error for programs that users other than root can change or replace.
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
