package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// A Choice selects phones.
type Choice struct {
	// Devices are names: adb:SERIAL, ssh:DESTINATION, local:FOLDER, or an adb serial. Empty: the
	// only attached phone.
	Devices []string
	All     bool // every attached, usable phone

	ADB, SSH string // programs; empty: "adb" and "ssh"
	// Ask prompts the user to choose one of several phones; nil without a terminal.
	Ask func(devices []Device) (Device, error)
}

// A ChoiceError is the error for an ambiguous choice, or for a phone that cannot be used.
type ChoiceError struct {
	What    string
	Devices []Device // attached phones
}

func (e *ChoiceError) Error() string {
	var text strings.Builder
	text.WriteString(e.What)
	for _, d := range e.Devices {
		text.WriteString("\n  " + d.String())
	}
	return text.String()
}

// ErrNone says that no phone is attached.
var ErrNone = errors.New("no phone is attached: plug one in, switch on USB debugging in its developer options and allow this computer; " +
	"or `adb connect HOST:PORT`, or --device ssh:user@host")

// Choose returns the selected phones, each once. It does not connect to them.
func Choose(ctx context.Context, c Choice) ([]Phone, error) {
	if c.ADB == "" {
		c.ADB = "adb"
	}
	if c.SSH == "" {
		c.SSH = "ssh"
	}
	if c.All && len(c.Devices) > 0 {
		return nil, &ChoiceError{What: "--all and --device exclude each other"}
	}
	if len(c.Devices) == 0 {
		return c.attached(ctx)
	}
	var phones []Phone
	seen := map[string]bool{}
	var list func() ([]Device, error) // called once, if a serial is given
	var listed []Device
	list = func() ([]Device, error) {
		var err error
		if listed == nil {
			listed, err = Devices(ctx, c.ADB)
		}
		return listed, err
	}
	for _, name := range c.Devices {
		p, key, err := c.named(name, list)
		if err != nil {
			return nil, err
		}
		if !seen[key] {
			seen[key] = true
			phones = append(phones, p)
		}
	}
	return phones, nil
}

// named returns the phone of a name, and its full name.
func (c Choice) named(name string, list func() ([]Device, error)) (Phone, string, error) {
	kind, rest, _ := strings.Cut(name, ":")
	switch kind {
	case "local":
		dir, err := localDir(rest)
		if err != nil {
			return nil, "", err
		}
		return Local(phonepath.Root(dir), nil), "local:" + dir, nil
	case "ssh":
		p, err := SSH(c.SSH, rest)
		if err != nil {
			return nil, "", &ChoiceError{What: "--device " + name + ": " + err.Error()}
		}
		return p, name, nil
	case "adb":
		name = rest
	}
	devices, err := list()
	if err != nil {
		return nil, "", err
	}
	for _, d := range devices {
		if d.Serial != name {
			continue
		}
		if !d.Usable() {
			return nil, "", fmt.Errorf("%s: %s: %s", d.Serial, d.fault(), d.advice())
		}
		return ADB(c.ADB, d.Serial), "adb:" + d.Serial, nil
	}
	if len(devices) == 0 {
		return nil, "", fmt.Errorf("%s: %w", name, ErrNone)
	}
	return nil, "", &ChoiceError{What: fmt.Sprintf("%q is not attached (a phone is adb:SERIAL, ssh:user@host or local:FOLDER); adb sees:", name), Devices: devices}
}

// localDir returns the absolute path of a folder that exists.
func localDir(name string) (string, error) {
	if name == "" {
		return "", &ChoiceError{What: "--device local: lacks a folder, such as local:/srv/sovereign"}
	}
	dir, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("--device local:%s: the folder does not exist: make it as root, and let only root write to it", name)
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", fmt.Errorf("--device local:%s: it is not a folder", name)
	}
	return dir, nil
}

// attached returns all attached phones with All, or the only one.
func (c Choice) attached(ctx context.Context) ([]Phone, error) {
	devices, err := Devices(ctx, c.ADB)
	if err != nil {
		return nil, err
	}
	var usable []Device
	for _, d := range devices {
		if d.Usable() {
			usable = append(usable, d)
		}
	}
	switch {
	case len(devices) == 0:
		return nil, ErrNone
	case len(usable) == 0:
		var faults []error
		for _, d := range devices {
			faults = append(faults, fmt.Errorf("%s: %s: %s", d.Serial, d.fault(), d.advice()))
		}
		return nil, errors.Join(faults...)
	case c.All && len(usable) < len(devices):
		// --all must not silently skip phones.
		return nil, &ChoiceError{What: "--all: some of the phones cannot be used; name those that can with --device:", Devices: devices}
	case !c.All && len(usable) > 1:
		if c.Ask == nil {
			return nil, &ChoiceError{What: "several phones are attached: choose with --device SERIAL (repeatable), --all or $ANDROID_SERIAL:", Devices: devices}
		}
		d, err := c.Ask(usable)
		if err != nil {
			return nil, err
		}
		usable = []Device{d}
	}
	var phones []Phone
	for _, d := range usable {
		phones = append(phones, ADB(c.ADB, d.Serial))
	}
	return phones, nil
}
