//go:build linux

package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// blockDevices lists the kernel's block devices: preferred first, if it exists, then by name.
func blockDevices(preferred string) []string {
	var list []string
	if preferred != "" {
		list = append(list, preferred)
	}
	entries, err := os.ReadDir("/sys/class/block") // sorted
	if err != nil {
		return list
	}
	for _, e := range entries {
		// In sysfs an exclamation mark replaces a slash in a device's name.
		name := filepath.Join("/dev", strings.ReplaceAll(e.Name(), "!", "/"))
		if name != preferred {
			list = append(list, name)
		}
	}
	return list
}

// The fields of ext4's superblock that identify it: fs/ext4/ext4.h, struct ext4_super_block, at
// offset 1,024 of the device.
const (
	superOffset = 1024
	magicOffset = superOffset + 0x38 // __le16 s_magic
	labelOffset = superOffset + 0x78 // char s_volume_name[16]
	labelLength = 16
	ext4Magic   = "\x53\xef"
)

// pollInterval is the interval of polling for a disk.
const pollInterval = 20 * time.Millisecond

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

// findExt4 returns the device with the label, or else preferred if it exists and has ext4. It waits
// up to limit for a device to appear.
func (d *Data) findExt4(limit time.Duration) (string, error) {
	label, preferred := d.Spec.Label, d.Spec.Device
	for deadline := time.Now().Add(limit); ; time.Sleep(pollInterval) {
		devices := blockDevices(preferred)
		for _, device := range devices {
			if found, ok := ext4Label(device); ok && found == label {
				return device, nil
			}
		}
		if _, ok := ext4Label(preferred); ok {
			return preferred, nil
		}
		if time.Now().After(deadline) {
			for _, device := range devices {
				if found, encrypted, _ := luksLabel(device); isNew(device, label) || encrypted && (device == preferred || isLabel(found, label)) {
					return "", fmt.Errorf("%s is encrypted, and this version's recipe does not say %s: install one that does", device, d.encryptKey())
				}
			}
			if preferred == "" {
				return "", fmt.Errorf("no disk with the ext4 label %s: is it attached, and was it made?", label)
			}
			return "", fmt.Errorf("no disk with the ext4 label %s, and no ext4 on %s: is the data disk attached, and was it made?", label, preferred)
		}
	}
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
