//go:build linux

package disk

import (
	"errors"
	"io"
	"os"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/guest/seed"
)

// ReadConfig finds the config disk and reads it. It checks the device preferred first.
func ReadConfig(preferred string) (configdisk.Config, error) {
	for _, device := range blockDevices(preferred) {
		magic, err := readAt(device, 0, len(configdisk.Magic))
		if err != nil || magic != configdisk.Magic {
			continue
		}
		f, err := os.Open(device)
		if err != nil {
			return configdisk.Config{}, err
		}
		defer f.Close()
		size, err := f.Seek(0, io.SeekEnd) // a block device's size; stat says 0
		if err != nil {
			return configdisk.Config{}, err
		}
		return configdisk.Decode(f, size)
	}
	return configdisk.Config{}, ErrNoConfig
}

// ReadSeed finds the seed of cloud-init and reads it. The error wraps seed.ErrNone if there is
// none.
func ReadSeed() (configdisk.Config, error) {
	for _, device := range blockDevices("") {
		f, err := os.Open(device)
		if err != nil {
			continue // a drive without a disk
		}
		config, err := seed.Read(f)
		f.Close()
		if !errors.Is(err, seed.ErrNone) {
			return config, err
		}
	}
	return configdisk.Config{}, seed.ErrNone
}

// ErrNoConfig says that the machine does not have a config disk.
var ErrNoConfig = errors.New("no disk begins as a config disk does: the guest has no address, no secrets and no endpoint")
