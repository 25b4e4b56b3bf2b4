// Package doctor looks at what building and running need: tools, the cache folder and public
// sources of this computer, and phones. It returns a finding for each check, with what to do; what
// a phone lacks is package preflight's to find.
package doctor

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/preflight"
	"github.com/sovereign-sql/sov/internal/host/qemu"
	"github.com/sovereign-sql/sov/kernel"

	kernelstage "github.com/sovereign-sql/sov/stages/kernel"
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

// UsualGroups are looked at when nothing else is asked for: a phone is not needed to build.
var UsualGroups = Groups[:3]

// A Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`
	Group  string `json:"group"` // "tools", "cache", "sources" or "phone"
	OK     bool   `json:"ok"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"` // what to do; only where OK is false
}

// Check looks at the groups, but for phones, see Phones. arch is the guest's; cacheDir returns the
// cache folder, which is made if it is missing.
func Check(ctx context.Context, arch string, groups []string, cacheDir func() (string, error)) []Finding {
	var findings []Finding
	if slices.Contains(groups, "tools") {
		findings = append(findings, checkGo(ctx), checkKernelTools(ctx, arch), checkQEMU(arch))
	}
	if slices.Contains(groups, "cache") {
		findings = append(findings, checkCache(cacheDir))
	}
	if slices.Contains(groups, "sources") {
		findings = append(findings, checkSources(ctx)...)
	}
	return findings
}

// Phones looks at phones that are to run a machine for arch. The error is that of a phone that
// cannot be asked.
func Phones(ctx context.Context, phones []device.Phone, arch string) ([]Finding, error) {
	var findings []Finding
	for _, p := range phones {
		found, err := preflight.Check(ctx, p, preflight.Need{Arch: arch})
		if err != nil {
			return nil, err
		}
		for _, one := range found {
			name := one.Check
			if len(phones) > 1 {
				name = p.Name() + " " + name
			}
			findings = append(findings, Finding{Check: name, Group: "phone", OK: one.OK, Found: one.Found, Advice: one.Advice})
		}
	}
	return findings, nil
}

// Missing counts the checks that failed.
func Missing(findings []Finding) int {
	n := 0
	for _, f := range findings {
		if !f.OK {
			n++
		}
	}
	return n
}

func checkGo(ctx context.Context) Finding {
	f := Finding{Check: "Go toolchain", Group: "tools"}
	out, err := exec.CommandContext(ctx, "go", "version").Output()
	if err != nil {
		f.Found, f.Advice = "go is not there", "install Go from https://go.dev/dl: it compiles Tailscale for the guest"
		return f
	}
	f.OK, f.Found = true, strings.TrimSpace(string(out))
	return f
}

func checkKernelTools(ctx context.Context, arch string) Finding {
	f := Finding{Check: "kernel compiler", Group: "tools", OK: true, Found: "everything is there"}
	if err := kernelstage.CheckTools(ctx, arch); err != nil {
		f.OK, f.Found, f.Advice = false, err.Error(), "or give a finished kernel: sov build --kernel IMAGE"
	}
	return f
}

func checkQEMU(arch string) Finding {
	f := Finding{Check: "QEMU", Group: "tools"}
	path, err := qemu.Find(arch)
	if err != nil {
		f.Found, f.Advice = err.Error(), "needed by `sov run` only"
		return f
	}
	f.OK, f.Found = true, path
	return f
}

// checkSources asks all public sources at once whether they answer.
func checkSources(ctx context.Context) []Finding {
	sources := []struct{ name, url, advice string }{
		{"Docker Hub", "https://registry-1.docker.io/v2/", "use a mirror: sov build --image REF"},
		{"Alpine packages", "https://dl-cdn.alpinelinux.org/alpine/MIRRORS.txt", "use a mirror: sov build --repository URL"},
		{"kernel.org", kernel.SignatureURL(kernel.Version), "not needed where Debian's archive, a source (--with-kernel-source) or a kernel (--kernel) is at hand"},
	}
	findings := make([]Finding, len(sources))
	var wait sync.WaitGroup
	for i, s := range sources {
		wait.Go(func() {
			findings[i] = Finding{Check: s.name, Group: "sources"}
			if err := answers(ctx, s.url); err != nil {
				findings[i].Found, findings[i].Advice = err.Error(), s.advice
				return
			}
			findings[i].OK, findings[i].Found = true, "answers"
		})
	}
	wait.Wait()
	return findings
}

// answers reports whether a server answers at all; what it says (a registry asks for a login) does
// not matter.
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
