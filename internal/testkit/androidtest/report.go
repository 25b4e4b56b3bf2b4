package androidtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/host/phonereport"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
)

// A report of a real phone (package phonereport) replaces these defaults of the simulated phone:
// properties, device nodes, applets, root manager, crosvm's version and help, sysctls, and the
// rules and chains of its network. Interfaces and routes stay simulated.

// rootManagers maps the names in reports to superusers.
var rootManagers = map[string]Superuser{"Magisk": Magisk, "KernelSU": KernelSU, "APatch": APatch}

// withReport returns the options with the values that the report determines.
func (o Options) withReport() Options {
	if o.Report == nil {
		return o
	}
	o.Build = DefaultBuild(reportedRelease(o.Report))
	o.Superuser = Unrooted
	for _, line := range o.Report.Lines(phonereport.RootManager) {
		if kind := rootManagers[line]; kind != "" && o.Superuser == Unrooted {
			o.Superuser = kind
		}
	}
	return o
}

// reportedRelease returns the release whose crosvm help equals the report's. If none does, it
// returns the newest release of the report's Android version, or else DefaultRelease.
func reportedRelease(r *phonereport.Report) crosvmcli.Release {
	version := reportedProperties(r)["ro.build.version.release"]
	best := DefaultRelease()
	for _, release := range crosvmcli.Releases {
		if strings.TrimSpace(crosvmcli.Facts().Help(release, "run")) == strings.TrimSpace(r.Section(phonereport.CrosvmHelp)) {
			return release
		}
		if release.Version() == version {
			best = release
		}
	}
	return best
}

// reportedProperties returns the report's properties by name.
func reportedProperties(r *phonereport.Report) map[string]string {
	out := map[string]string{}
	for _, line := range r.Lines(phonereport.Properties) {
		name, value, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "["), "]"), "]: [")
		if ok && !strings.Contains(name, "/") {
			out[name] = value
		}
	}
	return out
}

// reportedNodes returns the report's device nodes in the format that makeDev reads.
func reportedNodes(r *phonereport.Report) (string, error) {
	var out strings.Builder
	for _, line := range r.Lines(phonereport.Nodes) {
		fields := strings.Fields(line)
		if len(fields) != 5 || strings.Contains(fields[4], "/") { // a link
			continue
		}
		major, minor, _ := strings.Cut(fields[3], ":")
		high, err := strconv.ParseUint(major, 16, 32)
		if err != nil {
			return "", fmt.Errorf("node %q: %w", line, err)
		}
		low, err := strconv.ParseUint(minor, 16, 32)
		if err != nil {
			return "", fmt.Errorf("node %q: %w", line, err)
		}
		fmt.Fprintf(&out, "%s %s %s %s %d %d\n", fields[4], fields[0], fields[1], fields[2], high, low)
	}
	return out.String(), nil
}

// furnishReport creates the phone's files from the report.
func (p *Phone) furnishReport(r *phonereport.Report) {
	p.t.Helper()
	has := strings.Fields(r.Section(phonereport.Applets))
	for _, name := range strings.Fields(applets) {
		if !slices.Contains(has, name) {
			if err := os.Remove(p.path("system/bin/" + name)); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	nodes, err := reportedNodes(r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write("nodes", nodes, 0o644)
	for name, value := range reportedProperties(r) {
		p.SetProp(name, value)
	}
	const virt, program = "apex/com.android.virt", "apex/com.android.virt/bin/crosvm"
	if len(r.Lines(phonereport.Crosvm)) != 1 { // the report says that crosvm is missing
		if err := os.Remove(p.path(program)); err != nil {
			p.t.Fatal(err)
		}
		return
	}
	if err := os.MkdirAll(p.path(virt+"/stand-in"), 0o755); err != nil {
		p.t.Fatal(err)
	}
	for _, file := range []string{"crosvm", "crosvm.json"} {
		p.copy(p.path(virt+"/bin/"+file), virt+"/stand-in/"+file)
	}
	p.write(virt+"/stand-in/version", r.Section(phonereport.CrosvmVersion), 0o644)
	p.write(virt+"/stand-in/help", r.Section(phonereport.CrosvmHelp), 0o644)
	p.write(program, `#!/system/bin/sh
dir=/apex/com.android.virt/stand-in
case "$*" in
version) exec cat $dir/version ;;
*"run --help") exec cat $dir/help ;;
*) exec $dir/crosvm "$@" ;;
esac
`, 0o755)
}

// applyReport configures the phone's network from the report, after the interfaces are created.
func (p *Phone) applyReport(r *phonereport.Report) {
	p.t.Helper()
	var script strings.Builder
	script.WriteString("ip rule flush; ip rule del pref 0\n")
	for _, line := range r.Lines(phonereport.Rules) {
		pref, rest, ok := strings.Cut(line, ":")
		if ok {
			fmt.Fprintf(&script, "ip rule add pref %s %s\n", strings.TrimSpace(pref), strings.TrimSpace(rest))
		}
	}
	for _, line := range r.Lines(phonereport.Sysctls) {
		name, value, ok := strings.Cut(line, "=")
		if ok && strings.HasPrefix(name, "net/") && filepath.IsLocal(name) {
			fmt.Fprintf(&script, "echo %s >/proc/sys/%s\n", value, name)
		}
	}
	fmt.Fprintf(&script, "/system/bin/iptables-restore <<'END'\n%sEND\n", r.Section(phonereport.Chains))
	p.Shell(script.String())
}
