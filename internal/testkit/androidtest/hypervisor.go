package androidtest

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/netd"
)

// A Hypervisor is the name of a phone's hypervisor device in /dev.
type Hypervisor string

// Values of Hypervisor.
const (
	KVM          Hypervisor = "kvm"
	Gunyah       Hypervisor = "gunyah" // Qualcomm's
	GenieZone    Hypervisor = "gzvm"   // MediaTek's
	NoHypervisor Hypervisor = "none"
)

// DefaultRelease returns the release for tests that name none: ANDROIDTEST_RELEASE's value, or 15
// QPR2.
func DefaultRelease() crosvmcli.Release {
	if r, err := crosvmcli.ParseRelease(os.Getenv("ANDROIDTEST_RELEASE")); err == nil {
		return r
	}
	return crosvmcli.Android15QPR2
}

// DefaultBuild returns a release's crosvm with a hypervisor that runs every kind of machine.
func DefaultBuild(r crosvmcli.Release) crosvmcli.Build {
	return crosvmcli.Build{Release: r, Unprotected: true, Protected: true, WithoutFirmware: true}
}

// on returns the build as limited by a hypervisor.
func on(b crosvmcli.Build, h Hypervisor) crosvmcli.Build {
	if h == Gunyah { // no known phone with Gunyah runs other machines
		b.Unprotected, b.Protected = false, false
	}
	return b
}

// OptionsOf returns the options of a phone by its release, its hypervisor, and its system: "AOSP",
// "LineageOS" or "CalyxOS". It returns an error if such a phone does not exist.
func OptionsOf(r crosvmcli.Release, h Hypervisor, system string) (Options, error) {
	if r == crosvmcli.Android13 && (h == Gunyah || h == GenieZone) {
		return Options{}, fmt.Errorf("release 13 with %s: its crosvm knows KVM alone: take a release from 14 on", h)
	}
	var released []string
	for _, s := range netd.Systems {
		name, _, _ := strings.Cut(s.Name, " ")
		if !strings.EqualFold(name, system) {
			continue
		}
		if strconv.Itoa(s.Release) == r.Version() {
			return Options{Build: on(DefaultBuild(r), h), Hypervisor: h, System: s}, nil
		}
		released = append(released, strconv.Itoa(s.Release))
	}
	if released == nil {
		return Options{}, fmt.Errorf("system %q: must be AOSP, LineageOS or CalyxOS", system)
	}
	return Options{}, fmt.Errorf("%s of Android %s: it is known of Android %s alone: take one of these releases", system, r.Version(), strings.Join(released, ", "))
}

// hypervisorProps returns the properties in which Android's boot loader reports the hypervisor.
func (o Options) hypervisorProps() map[string]string {
	props := map[string]string{"ro.boot.hypervisor.vm.supported": strconv.FormatBool(o.Build.Unprotected),
		"ro.boot.hypervisor.protected_vm.supported": strconv.FormatBool(o.Build.Protected || o.Build.WithoutFirmware)}
	switch o.Hypervisor {
	case "", KVM:
		props["ro.boot.hypervisor.version"] = "kvm.arm-protected"
	case Gunyah:
		props["ro.boot.hypervisor.version"] = "gunyah-v1.0"
	case GenieZone:
		props["ro.boot.hypervisor.version"] = "GenieZone"
	case NoHypervisor:
		return nil
	}
	return props
}

// CrosvmStarts returns the records of all crosvm processes that started a machine, in order.
func (p *Phone) CrosvmStarts() []crosvmcli.Record {
	p.t.Helper()
	var out []crosvmcli.Record
	for _, line := range p.Calls("crosvm") {
		var r crosvmcli.Record
		if line == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			p.t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}
