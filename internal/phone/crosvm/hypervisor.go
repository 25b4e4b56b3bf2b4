package crosvm

import (
	"fmt"
	"os"
)

// A Hypervisor is one of those that crosvm knows, by its name for --hypervisor.
type Hypervisor string

// Hypervisors.
const (
	KVM       Hypervisor = "kvm"       // pKVM on phones
	GenieZone Hypervisor = "geniezone" // MediaTek's
	Gunyah    Hypervisor = "gunyah"    // Qualcomm's
)

// hypervisorNodes are the hypervisors' devices, in the order in which crosvm looks for one (src/crosvm/sys/linux.rs).
var hypervisorNodes = []struct {
	Hypervisor
	node string
}{{KVM, "/dev/kvm"}, {GenieZone, "/dev/gzvm"}, {Gunyah, "/dev/gunyah"}}

// Node is the hypervisor's device, "" of one that is unknown.
func (h Hypervisor) Node() string {
	for _, n := range hypervisorNodes {
		if n.Hypervisor == h {
			return n.node
		}
	}
	return ""
}

// FindHypervisor returns the hypervisor that crosvm would take: the first whose device is there.
func FindHypervisor() (Hypervisor, error) {
	for _, n := range hypervisorNodes {
		if _, err := os.Stat(n.node); err == nil {
			return n.Hypervisor, nil
		}
	}
	return "", fmt.Errorf("find a hypervisor: there is neither /dev/kvm nor /dev/gzvm nor /dev/gunyah: " +
		"the phone's kernel or boot loader offers no virtual machines")
}
