package preflight

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/avf"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func TestMain(m *testing.M) {
	status := m.Run()
	androidtest.RemovePrograms()
	os.Exit(status)
}

func TestCheck(t *testing.T) {
	s := androidtest.NewADBServer(t)
	for _, c := range []struct {
		name    string
		phone   androidtest.Options
		adb     androidtest.ADBOptions
		need    Need
		prepare func(*androidtest.Phone)
		finds   map[string]string // of checks: what they find
		want    map[string]string // of failed checks: words of the finding and its advice
		says    map[string]string // of other checks: words of the finding
	}{
		{name: "sound", need: Need{Arch: "amd64", Space: 1 << 20}},
		{name: "gunyah", phone: androidtest.Options{Hypervisor: androidtest.Gunyah, Superuser: androidtest.KernelSU},
			finds: map[string]string{"root": "commands run as root, KernelSU", "system": "Android 15 Simulated Phone, kernel " + kernelRelease(t)}, says: map[string]string{"hypervisor": "untested: Gunyah"}},
		{name: "8 Elite", phone: androidtest.Options{Hypervisor: androidtest.Gunyah}, prepare: func(p *androidtest.Phone) { p.SetProp("ro.soc.model", "SM8750") },
			says: map[string]string{"hypervisor": "runs: Gunyah"}},
		{name: "8 Gen 3", phone: androidtest.Options{Hypervisor: androidtest.Gunyah}, prepare: func(p *androidtest.Phone) { p.SetProp("ro.soc.model", "SM8650") },
			want: map[string]string{"hypervisor": "unsupported: Gunyah"}},
		{name: "unprotected on gunyah", phone: androidtest.Options{Hypervisor: androidtest.Gunyah}, need: Need{Name: "sql", AVF: avf.Options{Protection: avf.Unprotected}},
			want: map[string]string{"hypervisor": "protected only: Gunyah"}},
		{name: "settings override the artifact", phone: androidtest.Options{Hypervisor: androidtest.Gunyah}, need: Need{Name: "sql", AVF: avf.Options{Protection: avf.Unprotected}},
			prepare: func(p *androidtest.Phone) {
				p.Shell(`echo '{"vms": {"sql": {"memory_mib": 512, "protection": "protected-without-firmware"}}}' >/data/sovereign/settings.json`)
			}},
		{name: "gunyah on 13", phone: androidtest.Options{Hypervisor: androidtest.Gunyah, Build: androidtest.DefaultBuild(crosvmcli.Android13)},
			want: map[string]string{"crosvm": "built without Gunyah (--hypervisor)"}},
		{name: "geniezone", phone: androidtest.Options{Hypervisor: androidtest.GenieZone}, says: map[string]string{"hypervisor": "untested: GenieZone"}},
		{name: "protected only", phone: androidtest.Options{Build: crosvmcli.Build{Release: crosvmcli.Android15, WithoutFirmware: true}},
			want: map[string]string{"hypervisor": "protected only: KVM"}},
		{name: "13", phone: androidtest.Options{Build: androidtest.DefaultBuild(crosvmcli.Android13)}, says: map[string]string{"hypervisor": "runs: KVM"}},
		{name: "no network in crosvm", phone: androidtest.Options{Build: crosvmcli.Build{Release: crosvmcli.Android15, Unprotected: true, Without: []string{"--net", "--tap-fd", "--tap-name"}}},
			want: map[string]string{"crosvm": "built without a network card (--net, --tap-fd)"}},
		{name: "crosvm does not link", want: map[string]string{"crosvm": "does not run: CANNOT LINK EXECUTABLE"}, prepare: func(p *androidtest.Phone) {
			p.Shell(`printf '#!/bin/sh\necho "CANNOT LINK EXECUTABLE \"crosvm\": library \"libx.so\" not found" >&2; exit 1\n' >/apex/com.android.virt/bin/crosvm`)
		}},
		{name: "old and bare", phone: androidtest.Options{Hypervisor: androidtest.NoHypervisor}, need: Need{Arch: "riscv64", Space: 1 << 60},
			prepare: func(p *androidtest.Phone) {
				p.SetProp("ro.build.version.sdk", "30")
				p.Shell("rm /apex/com.android.virt/bin/crosvm; rm /dev/tun")
			},
			want: map[string]string{"system": "Android 13", "processor": "sov build --arch", "crosvm": "virtualization module",
				"hypervisor": "pkvm", "TAP": "CONFIG_TUN", "space": "free "}},
		{name: "no root", phone: androidtest.Options{Superuser: androidtest.Unrooted}, want: map[string]string{"root": "KernelSU"}},
		{name: "full", need: Need{Space: 10 << 20}, prepare: func(p *androidtest.Phone) { p.LimitDisk(200 << 20) },
			want: map[string]string{"space": "of them stay free"}},
		{name: "settings", need: Need{Arch: "arm64"},
			prepare: func(p *androidtest.Phone) {
				p.Shell(`echo '{"arch": "arm64", "crosvm": "/nowhere/crosvm"}' >/data/sovereign/settings.json`)
			},
			want: map[string]string{"crosvm": "/nowhere/crosvm"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := androidtest.New(t, c.phone)
			a := p.ServeADB(c.adb)
			s.Connect(a)
			if c.prepare != nil {
				c.prepare(p)
			}
			if c.need.Arch == "amd64" && strings.Contains(p.Shell("uname -m"), "aarch64") {
				c.need.Arch = "arm64"
			}
			findings, err := Check(t.Context(), device.ADB(s.Program(), a.Serial()), c.need)
			if err != nil {
				t.Fatal(err)
			}
			if len(findings) != 7 {
				t.Errorf("%d findings, want 7 whatever fails", len(findings))
			}
			for _, f := range findings {
				if want := c.finds[f.Check]; want != "" && f.Found != want {
					t.Errorf("%s: %q, want %q", f.Check, f.Found, want)
				}
				words, fails := c.want[f.Check]
				if !strings.Contains(f.Found, c.says[f.Check]) || (f.Verdict == finding.Warning) != strings.HasPrefix(f.Found, "untested") {
					t.Errorf("%+v, want %q", f, c.says[f.Check])
				}
				if fails != (f.Verdict == finding.Failed) || fails && !strings.Contains(f.Found+" "+f.Advice, words) || fails != (f.Advice != "") {
					t.Errorf("%+v, want failed: %t, with %q", f, fails, words)
				}
			}
			if len(finding.Failures(findings)) != len(c.want) {
				t.Errorf("%d failed, want %d", len(finding.Failures(findings)), len(c.want))
			}
		})
	}
}

func kernelRelease(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("uname", "-r").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// FuzzParse: each check returns a finding without control characters, whatever a phone reports.
func FuzzParse(f *testing.F) {
	f.Add([]byte("machine=aarch64\nandroid=15\nsdk=35\ncrosvm=/apex/c\ncrosvm_there=1\nhypervisor=kvm\ntun=1\nfolder=/data\nfree=1000000 4096\n"))
	f.Add([]byte("free=9223372036854775807 9223372036854775807\nsdk=\x1b[2J\nmodel=\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		defer costtest.Text.Watch(t, len(text))()
		facts, err := parse(text)
		if err != nil {
			return
		}
		facts.root = true
		for _, found := range []finding.Finding{facts.checkSystem(), facts.checkArch("arm64"), facts.checkCrosvm(avf.Options{}), facts.checkHypervisor(avf.Options{}), facts.checkTUN(), facts.checkSpace(1)} {
			if strings.ContainsAny(found.Found+found.Advice, "\n\x00\x1b") || facts.free < 0 {
				t.Errorf("%q: %+v", text, found)
			}
		}
	})
}
