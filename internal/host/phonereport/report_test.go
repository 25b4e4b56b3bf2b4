package phonereport_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/phonereport"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func TestMain(m *testing.M) {
	status := m.Run()
	androidtest.RemovePrograms()
	os.Exit(status)
}

// TestRoundTrip: a report configures a simulated phone like its original. The report of that phone
// has the same properties.
func TestRoundTrip(t *testing.T) {
	s := androidtest.NewADBServer(t)
	dial := func(p *androidtest.Phone) device.Phone {
		a := p.ServeADB(androidtest.ADBOptions{})
		s.Connect(a)
		return device.ADB(s.Program(), a.Serial())
	}
	p := androidtest.New(t, androidtest.Options{Build: androidtest.DefaultBuild(crosvmcli.Android13), Superuser: androidtest.KernelSU, Hypervisor: androidtest.Gunyah, InMemory: true})
	p.SetProp("ro.soc.model", "SM8550")
	p.SetProp("ro.serialno", "R58MSECRET")
	p.SetProp("persist.account", "someone@example.org")
	p.Shell(`ip rule add pref 15040 from all fwmark 0x64/0xffff lookup 1099; rm /system/bin/flock; ip route add 203.0.113.77 via 192.168.1.1 dev wlan0 table 1010
		$IPTABLES -N oem_of_the_vendor; $IPTABLES -A oem_of_the_vendor -s 10.11.12.13 -j ACCEPT; echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter`)
	file := filepath.Join(t.TempDir(), "report.txt")
	if err := phonereport.Save(t.Context(), dial(p), file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"SECRET", "example.org", "203.0.113.77", "192.168.1.1", "10.11.12.13", "10.20.30.40"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the report holds %s", secret)
		}
	}
	if macs := regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`).FindAllString(string(text), -1); strings.Contains(strings.Join(macs, " ")+" ", "02:00:00:00") != (len(macs) > 0) {
		t.Errorf("hardware addresses: %v", macs)
	}
	r, err := phonereport.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if r.String() != string(text) {
		t.Errorf("what was read is written otherwise: %s", cmp.Diff(string(text), r.String()))
	}
	for name, has := range map[string]string{
		phonereport.Properties: "[ro.build.version.release]: [13]\n", phonereport.Nodes: "600 1000 1000 1:3 gunyah\n", phonereport.RootManager: "KernelSU\n",
		phonereport.CrosvmHelp: "--mem", phonereport.Rules: "lookup 1099\n", phonereport.Chains: "-A oem_of_the_vendor", phonereport.Sysctls: "net/ipv4/conf/all/rp_filter=1\n",
		phonereport.Cgroups: "0::/\n", phonereport.Applets: " timeout ", phonereport.Power: "battery/capacity=80\n", phonereport.Routes: "dev wlan0",
	} {
		if !strings.Contains(r.Section(name), has) {
			t.Errorf("%s lacks %q: %s", name, has, r.Section(name))
		}
	}

	like := androidtest.New(t, androidtest.Options{Report: r, InMemory: true})
	again, err := phonereport.Collect(t.Context(), dial(like))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{phonereport.Properties, phonereport.Crosvm, phonereport.CrosvmVersion, phonereport.CrosvmHelp, phonereport.Programs, phonereport.Nodes,
		phonereport.Rules, phonereport.Sysctls, phonereport.Cgroups, phonereport.RootManager, phonereport.Applets, phonereport.Kernel, phonereport.Power} {
		if diff := cmp.Diff(r.Section(name), again.Section(name)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	if got := again.Section(phonereport.Chains); !strings.Contains(got, ":oem_of_the_vendor ") || strings.Count(got, "\n") != strings.Count(r.Section(phonereport.Chains), "\n") {
		t.Errorf("chains: %s", got)
	}

	// Another network state of the same phone.
	p.SwitchUplink("rmnet0")
	if err := phonereport.Save(t.Context(), dial(p), file); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	if r, err = phonereport.Parse(string(text)); err != nil || r.Section("rules 2") == "" || r.Section("rules 2") == r.Section(phonereport.Rules) {
		t.Errorf("the second scene: %v\n%s", err, r.Section("rules 2"))
	}
	if err := os.WriteFile(file, []byte("other notes"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := phonereport.Save(t.Context(), dial(p), file); err == nil || !strings.Contains(err.Error(), "name another file") {
		t.Errorf("over another file: %v", err)
	}
}

// FuzzParse: writing an accepted report and reading it again returns the same report.
func FuzzParse(f *testing.F) {
	f.Add("sov phone report 1\n\n== rules\n0: from all lookup local\n\n== routes\n")
	f.Fuzz(func(t *testing.T, text string) {
		defer costtest.Text.Watch(t, len(text))()
		r, err := phonereport.Parse(text)
		if err != nil {
			return
		}
		again, err := phonereport.Parse(r.String())
		if err != nil || again.String() != r.String() {
			t.Errorf("%q became %q, %v", r.String(), again.String(), err)
		}
	})
}
