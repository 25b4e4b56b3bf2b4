package avf

import (
	"fmt"
	"slices"
	"strings"
)

// A Phone has a phone's data about its hypervisor. Unknown values are empty.
type Phone struct {
	Devices   []string // of hypervisors, by their names in /dev
	Version   string   // ro.boot.hypervisor.version
	VM        string   // ro.boot.hypervisor.vm.supported: unprotected machines are supported
	Protected string   // ro.boot.hypervisor.protected_vm.supported
	SoC       string   // ro.soc.model
}

// Hypervisor returns crosvm's default hypervisor, or "" if the phone does not have one.
func (p Phone) Hypervisor() Hypervisor {
	for _, h := range hypervisors {
		if slices.Contains(p.Devices, h.device) {
			return h.Hypervisor
		}
	}
	return ""
}

// A Class is the expected result of a machine on a phone.
type Class string

// Classes.
const (
	Runs          Class = "runs"           // the phone says so, or owners of the model reported it
	ProtectedOnly Class = "protected only" // the phone runs only protected machines, and this one is not
	Unsupported   Class = "unsupported"
	Untested      Class = "untested" // no known obstacle and no report
)

// A Verdict says whether a machine is expected to run on a phone.
type Verdict struct {
	Class  Class
	Reason string
	Advice string // what to do if the machine does not run
}

// OK reports whether to try a start.
func (v Verdict) OK() bool { return v.Class == Runs || v.Class == Untested }

// Qualcomm SoCs for which owners have reported how Gunyah starts a machine
// (polygraphene/gunyah-on-sd-guide, README and PVMFW.md): protected without firmware, or only with
// firmware that requires a signed system.
var (
	startsWithoutFirmware = []string{"SM8750"}           // Snapdragon 8 Elite
	wantsFirmware         = []string{"SM8550", "SM8650"} // 8 Gen 2, 8 Gen 3
)

// Judge returns the verdict for a machine with these options.
func (p Phone) Judge(o Options) Verdict {
	usual := p.Hypervisor()
	if usual == "" {
		return Verdict{Unsupported, "there is neither /dev/kvm nor /dev/gunyah nor /dev/gzvm",
			"the phone's kernel or boot loader does not support virtual machines: a custom kernel may lack them; on some phones `fastboot oem pkvm enable` enables them"}
	}
	o = o.On(usual)
	if !slices.Contains(p.Devices, o.Hypervisor.Device()) {
		return Verdict{Unsupported, fmt.Sprintf("the machine requires %s, but /dev/%s does not exist", o.Hypervisor.Title(), o.Hypervisor.Device()),
			"leave out `hypervisor` in the machine's recipe or settings.json: the phone's own is then used"}
	}
	v := p.judge(o)
	v.Reason = fmt.Sprintf("%s, %s: %s", p.describe(o.Hypervisor), map[Protection]string{Unprotected: "unprotected", Protected: "protected",
		WithoutFirmware: "protected without firmware"}[o.Protection], v.Reason)
	return v
}

// describe names a hypervisor with its device and version.
func (p Phone) describe(h Hypervisor) string {
	text := fmt.Sprintf("%s (/dev/%s)", h.Title(), h.Device())
	if p.Version != "" {
		text += " " + p.Version
	}
	return text
}

func (p Phone) judge(o Options) Verdict {
	says := "the phone says that it runs machines of this kind"
	switch {
	case o.Protection != Unprotected && no(p.Protected):
		return Verdict{Unsupported, "the phone says that it runs no protected machines (ro.boot.hypervisor.protected_vm.supported)",
			"set `protection: none` in the recipe's vm, or in settings.json"}
	case o.Hypervisor == Gunyah:
		return p.judgeGunyah(o)
	case o.Protection == Unprotected && no(p.VM) && yes(p.Protected):
		return Verdict{ProtectedOnly, "the phone runs protected machines only",
			"set `protection: protected-without-firmware` in the recipe's vm, or in settings.json"}
	case o.Protection == Unprotected && no(p.VM):
		return Verdict{Unsupported, "the phone says that it runs no machines (ro.boot.hypervisor.vm.supported)", "use another phone, or one with a boot loader that offers them"}
	case o.Protection == Protected:
		return Verdict{Untested, "its firmware may want a signed system, which this is not", ""}
	case o.Hypervisor == KVM && o.Protection == Unprotected && yes(p.VM):
		return Verdict{Runs, says, ""}
	case o.Hypervisor == GenieZone && o.Protection == Unprotected && yes(p.VM):
		return Verdict{Untested, says + "; reported to work on a Helio G85", ""}
	case o.Protection == Unprotected:
		return Verdict{Untested, "the phone does not report what it supports", ""}
	}
	return Verdict{Untested, "no report of such a phone is known", ""}
}

func (p Phone) judgeGunyah(o Options) Verdict {
	const firmware = "the phone's firmware for protected machines requires a signed system, and this one is not signed"
	known := func(models []string) bool {
		return slices.ContainsFunc(models, func(m string) bool { return strings.HasPrefix(strings.ToUpper(p.SoC), m) })
	}
	switch {
	case o.Protection == Protected:
		return Verdict{Unsupported, firmware, "leave out `protection`, or set it to protected-without-firmware"}
	case o.Protection == Unprotected && !yes(p.VM):
		return Verdict{ProtectedOnly, "Gunyah refuses unprotected machines in all reports", "leave out `protection`, or set it to protected-without-firmware"}
	case o.Protection == Unprotected:
		return Verdict{Untested, "the phone says that it runs unprotected machines; no report of one is known", ""}
	case known(startsWithoutFirmware):
		return Verdict{Runs, "reported to work on a Snapdragon 8 Elite", ""}
	case known(wantsFirmware):
		return Verdict{Unsupported, "reported not to work on a Snapdragon 8 Gen 2 and 3: " + firmware, "use another phone"}
	}
	return Verdict{Untested, "reported to work on a Snapdragon 8 Elite, and not on 8 Gen 2 and 3", ""}
}

// yes and no read a property, which may also be absent.
func yes(property string) bool { return property == "1" || property == "true" }
func no(property string) bool  { return property == "0" || property == "false" }
