package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/contract/avf"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// A Need is what a phone must provide.
type Need struct {
	Arch  string      // of the machine that is to run, as Go names it; empty: any
	Name  string      // of that machine; empty: none in particular
	AVF   avf.Options // that it was built with; the phone's settings.json overrides them
	Space int64       // upper bound of the bytes that will be written, without the data disk's growth; 0: nothing is sent
}

const (
	minSDK = 33 // Android 13, the first whose phones may have com.android.virt
	// reserve is the space that must stay free, in bytes: Android fails on a full disk, and the
	// sparse data disk grows.
	reserve = 256 << 20
)

// Check runs all checks. The error is that of a phone that cannot be reached.
func Check(ctx context.Context, p device.Phone, n Need) ([]finding.Finding, error) {
	f, err := ask(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("look at the phone: %w", err)
	}
	options := f.vms[n.Name].Over(n.AVF)
	findings := []finding.Finding{f.checkRoot(), f.checkSystem(), f.checkArch(n.Arch), f.checkCrosvm(options), f.checkHypervisor(options), f.checkTUN()}
	return append(findings, f.checkSpace(n.Space)), nil
}

func found(check, what string) finding.Finding { return finding.Pass(check, "%s", what) }

func missed(check, what, advice string) finding.Finding { return finding.Fail(check, what, advice) }

func (f facts) checkRoot() finding.Finding {
	if !f.root {
		return missed("root", f.noRoot, `root the phone with KernelSU or Magisk, and in its app allow superuser rights to "Shell" (com.android.shell), or to the ssh server's app`)
	}
	return found("root", strings.Join(append([]string{"commands run as root"}, f.manager...), ", "))
}

func (f facts) checkSystem() finding.Finding {
	const check = "system"
	switch {
	case f.linux != "":
		return found(check, "Linux "+f.linux+", no Android")
	case f.sdk >= minSDK:
		return found(check, strings.TrimSpace("Android "+f.android+" "+f.model)+", kernel "+f.kernel)
	case f.sdk == 0:
		return missed(check, "its version is unknown", "see `getprop ro.build.version.sdk` on the phone: 33 (Android 13) is needed")
	}
	return missed(check, "Android "+f.android, "update the phone: Android 13 is the first that can run virtual machines")
}

func (f facts) checkArch(want string) finding.Finding {
	const check = "processor"
	have := f.arch
	if have == "" {
		a, err := arch.OfUname(f.machine)
		if err != nil {
			return missed(check, "it is "+f.machine, "use another phone: its processor must be "+arch.Allowed())
		}
		have = a.Go
	}
	if want != "" && want != have {
		return missed(check, fmt.Sprintf("it is %s, the machine is for %s", have, want), "build for it: sov build --arch "+have)
	}
	return found(check, have)
}

func (f facts) checkCrosvm(o avf.Options) finding.Finding {
	const check = "crosvm"
	switch {
	case !f.there && !f.root:
		return missed(check, f.crosvm+" is not to be seen without root", "get root first, then look again")
	case !f.there && f.linux != "":
		return missed(check, f.crosvm+" is not there", `install crosvm and name it in the runner's settings.json: {"crosvm": "/usr/bin/crosvm"}`)
	case !f.there:
		return missed(check, f.crosvm+" is not there",
			"this Android has no virtualization module: it takes a phone that came with Android 13 or later and has AVF (Pixel 6 and later, many others), or a crosvm named in settings.json")
	case !f.root:
		return found(check, f.crosvm)
	}
	const other = "name another crosvm in the runner's settings.json"
	flags := avf.ParseHelp(f.help)
	if len(flags) == 0 {
		return missed(check, fmt.Sprintf("%s does not run: %s", f.crosvm, f.said), other)
	}
	if h := f.avf.Hypervisor(); h != "" {
		o = o.On(h)
	}
	if lacks := avf.Lacks(flags, o); lacks != "" {
		return missed(check, fmt.Sprintf("%s was built without %s", f.crosvm, lacks), other)
	}
	return found(check, f.crosvm)
}

// checkHypervisor reports whether the phone is known to run a machine with these options.
func (f facts) checkHypervisor(o avf.Options) finding.Finding {
	const check = "hypervisor"
	if len(f.avf.Devices) == 0 && !f.root {
		return missed(check, "it cannot be checked without root", "get root first, then look again")
	}
	v := f.avf.Judge(o)
	verdict := finding.Failed
	switch v.Class {
	case avf.Runs:
		verdict = finding.OK
	case avf.Untested:
		verdict = finding.Warning
	}
	return finding.Finding{Check: check, Verdict: verdict, Found: fmt.Sprintf("%s: %s", v.Class, v.Reason), Advice: v.Advice}
}

func (f facts) checkTUN() finding.Finding {
	const check = "TAP"
	switch {
	case f.tun:
		return found(check, "the kernel has TAP interfaces")
	case !f.root:
		return missed(check, "/dev/tun is not to be seen without root", "get root first, then look again")
	}
	return missed(check, "there is neither /dev/tun nor /dev/net/tun", "the kernel lacks CONFIG_TUN, without which the machine has no network: use the phone's stock kernel")
}

func (f facts) checkSpace(space int64) finding.Finding {
	const check = "space"
	have := fmt.Sprintf("%s free in %s", progress.FormatSize(f.free), f.folder)
	if space == 0 && f.free > 0 {
		return found(check, have)
	}
	if need := space + reserve; f.free < need {
		return missed(check, fmt.Sprintf("%s, %s are needed (%s of them stay free)", have, progress.FormatSize(need), progress.FormatSize(reserve)),
			fmt.Sprintf("free %s on the phone", progress.FormatSize(need-f.free)))
	}
	return found(check, have)
}
