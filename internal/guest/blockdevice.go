//go:build linux

package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
)

// blockDevices lists the block devices that the kernel knows, preferred first, then by name.
func blockDevices(preferred string) []string {
	list := []string{preferred}
	entries, err := os.ReadDir("/sys/class/block") // sorted
	if err != nil {
		return list
	}
	for _, e := range entries {
		// A slash in a device's name is an exclamation mark in sysfs.
		name := filepath.Join("/dev", strings.ReplaceAll(e.Name(), "!", "/"))
		if name != preferred {
			list = append(list, name)
		}
	}
	return list
}

// The parts of ext4's superblock by which it is recognised: fs/ext4/ext4.h, struct
// ext4_super_block, which begins 1,024 bytes into the device.
const (
	superOffset  = 1024
	magicOffset  = superOffset + 0x38 // __le16 s_magic
	labelOffset  = superOffset + 0x78 // char s_volume_name[16]
	labelLength  = 16
	ext4Magic    = "\x53\xef"
	pollInterval = 20 * time.Millisecond
)

// ext4Label returns the label of the ext4 file system on the device, and whether there is one.
func ext4Label(device string) (string, bool) {
	magic, err := readAt(device, magicOffset, len(ext4Magic))
	if err != nil || magic != ext4Magic {
		return "", false
	}
	label, err := readAt(device, labelOffset, labelLength)
	if err != nil {
		return "", false
	}
	label, _, _ = strings.Cut(label, "\x00")
	return label, true
}

// findExt4 returns the device that carries the label, or else preferred if it holds ext4. It
// waits up to limit for one to appear.
func findExt4(label, preferred string, limit time.Duration) (string, error) {
	for deadline := time.Now().Add(limit); ; time.Sleep(pollInterval) {
		for _, device := range blockDevices(preferred) {
			if found, ok := ext4Label(device); ok && found == label {
				return device, nil
			}
		}
		if _, ok := ext4Label(preferred); ok {
			return preferred, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no disk with the ext4 label %s, and no ext4 on %s: is the data disk attached, and was it made?", label, preferred)
		}
	}
}

// readConfigDisk finds the config disk and reads it.
func readConfigDisk(preferred string) (configdisk.Config, error) {
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
	return configdisk.Config{}, errors.New("no disk begins as a config disk does: the guest has no address, no secrets and no endpoint")
}

// readAt reads n bytes of the named file.
func readAt(name string, offset int64, n int) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, n)
	_, err = f.ReadAt(b, offset)
	return string(b), err
}
