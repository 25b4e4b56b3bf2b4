// Package doctor checks the requirements of building and running: tools, the cache folder and
// public sources of this computer, and phones. It returns a finding for each check, with advice;
// package preflight checks phones.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/egress"
	"github.com/sovereign-sql/sov/internal/host/embedded"
	"github.com/sovereign-sql/sov/internal/host/phonereport"
	"github.com/sovereign-sql/sov/internal/host/preflight"
	"github.com/sovereign-sql/sov/internal/host/qemu"
	"github.com/sovereign-sql/sov/kernel"

	"github.com/sovereign-sql/sov/stages/gobuild"
	kernelstage "github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/tailscale"
)

const (
	// sourceBound is how long a public source may take to answer.
	sourceBound = 3 * time.Second
	// buildSpace is what a first build of one architecture needs in the cache folder, in bytes: the
	// kernel's source unpacked and compiled takes 2 GiB, Go's build cache for Tailscale half of
	// that.
	buildSpace = 4 << 30
)

// Groups are the groups of checks.
var Groups = []string{"tools", "cache", "sources", "phone"}

// UsualGroups are checked by default: building does not need a phone.
var UsualGroups = Groups[:3]

// Check makes the checks of the groups, except those of phones, see Phones. arch is the guest's;
// cacheDir returns the cache folder, which is created if it does not exist. packages are the Debian
// packages with the missing tools, in order.
func Check(ctx context.Context, arch string, groups []string, cacheDir func() (string, error)) (findings []finding.Finding, packages []string) {
	add := func(group string, found ...finding.Finding) {
		for _, f := range found {
			f.Group = group
			findings = append(findings, f)
		}
	}
	if slices.Contains(groups, "tools") {
		add("tools", checkGo(ctx), checkPrograms())
		for _, check := range []func() (finding.Finding, []string){
			func() (finding.Finding, []string) { return checkKernelTools(ctx, arch) },
			func() (finding.Finding, []string) { return checkQEMU(arch) },
			func() (finding.Finding, []string) {
				return optional("adb", "adb", "adb", "only a phone on a cable needs it")
			},
			func() (finding.Finding, []string) {
				return optional("psql", "psql", "postgresql-client", "only `sov psql` needs it")
			},
			checkPasst,
			func() (finding.Finding, []string) { return checkFirmware(arch) },
		} {
			found, missing := check()
			add("tools", found)
			packages = append(packages, missing...)
		}
		slices.Sort(packages)
		packages = slices.Compact(packages)
	}
	if slices.Contains(groups, "cache") {
		add("cache", checkCache(cacheDir))
	}
	if slices.Contains(groups, "sources") {
		add("sources", checkSources(ctx)...)
	}
	return findings, packages
}

// Report writes a report about a phone to a file, see package phonereport.
func Report(ctx context.Context, phones []device.Phone, file string) error {
	if len(phones) != 1 {
		return fmt.Errorf("a report describes one phone, and %d are selected: choose one with --device", len(phones))
	}
	return phonereport.Save(ctx, phones[0], file)
}

// Phones checks phones for machines of arch. It returns an error if a phone cannot be reached.
func Phones(ctx context.Context, phones []device.Phone, arch string) ([]finding.Finding, error) {
	var findings []finding.Finding
	for _, p := range phones {
		found, err := preflight.Check(ctx, p, preflight.Need{Arch: arch})
		if err != nil {
			return nil, err
		}
		for _, one := range found {
			if len(phones) > 1 {
				one.Title = p.Name() + " " + one.Check
			}
			one.Group = "phone"
			findings = append(findings, one)
		}
	}
	return findings, nil
}

func checkGo(ctx context.Context) finding.Finding {
	const check = "Go toolchain"
	version, err := tailscale.CheckGo(ctx)
	if err != nil {
		return finding.Fail(check, err.Error(), "it compiles Tailscale for the guest")
	}
	return finding.Pass(check, "%s", version)
}

// checkPrograms reports the source of the programs for guest and phone. A sov that compiles them
// needs Go, see checkGo.
func checkPrograms() finding.Finding {
	const check = "sov-init, sov-runner"
	if err := embedded.Complete(); err == nil {
		return finding.Pass(check, "inside this sov")
	}
	info, _ := debug.ReadBuildInfo()
	m, _, ok := embedded.Installed(info)
	if !ok {
		return finding.Fail(check, "this sov was compiled without them", "type `make build` in the folder of sov's sources: bin/sov has them")
	}
	if _, err := (gobuild.Go{}).Path(); err != nil {
		return finding.Fail(check, "compiled from "+m.String()+" when they are needed, and "+err.Error(),
			"install Go, or take sov from a release's archive, which has them")
	}
	return finding.Pass(check, "compiled from %s when they are needed", m)
}

func checkKernelTools(ctx context.Context, arch string) (_ finding.Finding, missing []string) {
	const check = "kernel compiler"
	err := kernelstage.CheckTools(ctx, arch)
	if tools := new(kernelstage.MissingToolsError); errors.As(err, &tools) {
		return finding.Fail(check, "missing: "+strings.Join(tools.Tools, ", "), "or give a finished kernel: sov build --kernel IMAGE"), tools.Packages
	}
	if err != nil {
		return finding.Fail(check, err.Error(), "or give a finished kernel: sov build --kernel IMAGE"), nil
	}
	return finding.Pass(check, "everything is there"), nil
}

func checkQEMU(arch string) (finding.Finding, []string) {
	program, packet, err := qemu.Program(arch)
	if err != nil {
		return finding.Fail("QEMU", err.Error(), ""), nil
	}
	return optional("QEMU", program, packet, "only `sov run` needs it")
}

func checkFirmware(arch string) (finding.Finding, []string) {
	path, err := qemu.FindFirmware(arch)
	if err != nil {
		return finding.Finding{Check: "UEFI", Verdict: finding.Warning, Found: "not installed", Advice: "only `sov run --format disk` needs it"}, []string{qemu.FirmwarePackage(arch)}
	}
	return finding.Pass("UEFI", "%s", path), nil
}

func checkPasst() (finding.Finding, []string) {
	if runtime.GOOS != "linux" {
		return finding.Skip(egress.Program, "for Linux only: with `sov run --egress` the guest reaches this computer's loopback services"), nil
	}
	return optional(egress.Program, egress.Program, "passt", "only `sov run --egress` needs it: without it the guest reaches this computer's loopback services")
}

// optional checks for an optional program; advice says what needs it.
func optional(check, program, packet, advice string) (_ finding.Finding, missing []string) {
	path, err := exec.LookPath(program)
	if err != nil {
		return finding.Finding{Check: check, Verdict: finding.Warning, Found: program + " is not installed", Advice: advice}, []string{packet}
	}
	return finding.Pass(check, "%s", path), nil
}

// checkSources checks all public sources in parallel.
func checkSources(ctx context.Context) []finding.Finding {
	sources := []struct{ name, url, advice string }{
		{"Docker Hub", "https://registry-1.docker.io/v2/", "use a mirror: sov build --image REF"},
		{"Alpine packages", "https://dl-cdn.alpinelinux.org/alpine/MIRRORS.txt", "use a mirror: sov build --repository URL"},
		{"kernel.org", kernel.SignatureURL(kernel.Version), "not needed where Debian's archive, a source (--with-kernel-source) or a kernel (--kernel) is at hand"},
	}
	findings := make([]finding.Finding, len(sources))
	var wait sync.WaitGroup
	for i, s := range sources {
		wait.Go(func() {
			findings[i] = finding.Pass(s.name, "answers")
			if err := answers(ctx, s.url); err != nil {
				findings[i] = finding.Fail(s.name, err.Error(), s.advice)
			}
		})
	}
	wait.Wait()
	return findings
}

// answers returns an error unless a server answers, with any response (a registry requires a
// login).
func answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, sourceBound)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 500 {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}
