// Package seed reads the seed of cloud-init's NoCloud data source: a small disk labelled "cidata"
// with the files meta-data and user-data, which configures a virtual machine. The package uses only
//
//   - meta-data: local-hostname
//   - user-data that begins with "#cloud-config": hostname, which comes first, and secrets under
//     sov.secrets
//
// A guest of sov does not have login users, an SSH server or packages to install. The disk has ISO
// 9660, as cloud-localds, virt-install and most hypervisors write it, or FAT. The size of what is
// read is limited.
package seed

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
)

// Label is the disk's label, in lower or upper case.
const Label = "cidata"

// ErrNone says that a disk is not a seed.
var ErrNone = errors.New("not a seed of NoCloud")

const metaData, userData = "meta-data", "user-data"

// Read reads the seed on a disk. The error wraps ErrNone if it does not hold one.
func Read(r io.ReaderAt) (configdisk.Config, error) {
	label, files, err := readISO(r, metaData, userData)
	if errors.Is(err, errNotISO) {
		label, files, err = readFAT(r, metaData, userData)
	}
	if errors.Is(err, errNotFAT) || !strings.EqualFold(label, Label) {
		return configdisk.Config{}, ErrNone
	}
	if err != nil {
		return configdisk.Config{}, fmt.Errorf("read the seed %s: %w", Label, err)
	}
	c, err := parse(files[metaData], files[userData])
	if err != nil {
		return configdisk.Config{}, fmt.Errorf("read the seed %s: %w", Label, err)
	}
	return c, nil
}

// cloudConfig is the first line of a cloud-config.
const cloudConfig = "#cloud-config"

func parse(meta, user []byte) (configdisk.Config, error) {
	var m struct {
		Hostname string `yaml:"local-hostname"`
	}
	if err := yaml.Unmarshal(meta, &m); err != nil {
		return configdisk.Config{}, errors.New(metaData + " is not YAML") // the parser's error would quote secrets
	}
	var u struct {
		Hostname string `yaml:"hostname"`
		Sov      struct {
			Secrets map[string]string `yaml:"secrets"`
		} `yaml:"sov"`
	}
	if bytes.HasPrefix(user, []byte(cloudConfig)) {
		if err := yaml.Unmarshal(user, &u); err != nil {
			return configdisk.Config{}, errors.New(userData + " is not YAML, or sov.secrets is not a map of names and texts")
		}
	}
	host, _, _ := strings.Cut(cmp.Or(u.Hostname, m.Hostname), ".")
	c := configdisk.Config{Hostname: host, Secrets: u.Sov.Secrets}
	return c, c.Validate()
}
