package crosvmcli

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// A Build is a phone's crosvm and the features of its hypervisor.
type Build struct {
	Release Release  `json:"release"`
	Without []string `json:"without,omitempty"` // flags that the phone's vendor removed, such as --net
	// Machines that the hypervisor runs: unprotected ones, protected ones with the phone's
	// firmware, and protected ones without firmware.
	Unprotected     bool `json:"unprotected"`
	Protected       bool `json:"protected"`
	WithoutFirmware bool `json:"without_firmware"`

	RootOnly bool `json:"root_only,omitempty"` // the phone's kernel allows only root to create machines
	// The phone's SELinux policy forbids crosvm to lock files in memory (memfd), which have the
	// tmpfs label of their creator.
	NoMemoryLocks bool `json:"no_memory_locks,omitempty"`

	Light bool `json:"light,omitempty"` // every machine runs a light guest that is ready at once, whatever its kernel
}

// Table returns the flags of this build.
func (b Build) Table() Table {
	return slices.DeleteFunc(Facts(), func(f Flag) bool { return slices.Contains(b.Without, f.Name) })
}

// Supports reports whether the hypervisor runs a machine with a protection flag, or with "",
// without one.
func (b Build) Supports(protection string) bool {
	switch protection {
	case "":
		return b.Unprotected
	case "--protected-vm", "--protected-vm-with-firmware":
		return b.Protected
	case "--protected-vm-without-firmware":
		return b.WithoutFirmware
	}
	return b.Unprotected
}

// OwnBuild reads the build from the file beside the running program, PROGRAM.json.
func OwnBuild() (Build, error) {
	var b Build
	program, err := os.Executable()
	if err != nil {
		return b, err
	}
	text, err := os.ReadFile(program + ".json")
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return b, fmt.Errorf("%s.json: %w", program, err)
	}
	_, err = ParseRelease(string(b.Release))
	return b, err
}
