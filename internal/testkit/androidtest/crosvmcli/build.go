package crosvmcli

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// A Build is a phone's crosvm and what its hypervisor can do.
type Build struct {
	Release Release  `json:"release"`
	Without []string `json:"without,omitempty"` // flags that the phone's vendor has left out, such as --net
	// What the hypervisor runs: machines that are not protected, protected ones behind the phone's
	// own firmware, protected ones without.
	Unprotected     bool `json:"unprotected"`
	Protected       bool `json:"protected"`
	WithoutFirmware bool `json:"without_firmware"`

	RootOnly bool `json:"root_only,omitempty"` // the phone's kernel lets root alone make machines
	// The phone's SELinux policy lets crosvm lock no file that is in memory (memfd): such a one is
	// labelled as its maker's tmpfs.
	NoMemoryLocks bool `json:"no_memory_locks,omitempty"`

	Light bool `json:"light,omitempty"` // every machine's guest is a light one that is ready at once, whatever its kernel
}

// Table is the flags of this build.
func (b Build) Table() Table {
	return slices.DeleteFunc(Facts(), func(f Flag) bool { return slices.Contains(b.Without, f.Name) })
}

// Supports tells whether the hypervisor runs a machine with one of the protection flags, or with
// none.
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

// OwnBuild reads the description beside the program that runs.
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
