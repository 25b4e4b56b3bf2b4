package crosvm

import (
	"fmt"
	"os"

	"github.com/sovereign-sql/sov/internal/contract/avf"
)

// FindHypervisor returns the hypervisor that crosvm would use: the first whose device exists.
func FindHypervisor() (avf.Hypervisor, error) {
	for _, h := range avf.Hypervisors() {
		if _, err := os.Stat(node(h)); err == nil {
			return h, nil
		}
	}
	return "", fmt.Errorf("find a hypervisor: there is neither /dev/kvm nor /dev/gzvm nor /dev/gunyah: " +
		"the phone's kernel or boot loader does not support virtual machines")
}

// node returns the path of a hypervisor's device, or "".
func node(h avf.Hypervisor) string {
	if h.Device() == "" {
		return ""
	}
	return "/dev/" + h.Device()
}
