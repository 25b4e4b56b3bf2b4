package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/host/preflight"
	"github.com/sovereign-sql/sov/internal/host/qemu"
	"github.com/sovereign-sql/sov/kernel"
	"github.com/sovereign-sql/sov/pipeline/progress"
	kernelstage "github.com/sovereign-sql/sov/stages/kernel"
)

const (
	// sourceBound is how long a public source may take to answer.
	sourceBound = 3 * time.Second
	// buildSpace is what a first build of one architecture needs in the cache folder, in bytes: the kernel's source
	// unpacked and compiled takes 2 GiB, Go's build cache for Tailscale half of that.
	buildSpace = 4 << 30
)

// A finding is the result of one check of `sov doctor`.
type finding struct {
	Check  string `json:"check"`
	Group  string `json:"group"` // "tools", "cache", "sources" or "phone"
	OK     bool   `json:"ok"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"` // what to do; only where OK is false
}

var doctorGroups = []string{"tools", "cache", "sources", "phone"}

// usualGroups are looked at when nothing else is asked for: a phone is not needed to build.
var usualGroups = doctorGroups[:3]

func newDoctor() *cobra.Command {
	var arch string
	var only []string
	var asJSON bool
	var phones phoneFlags
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check that this computer has what building and running need",
		Long: `Check that this computer has what building and running need: tools (a Go toolchain, a compiler for the kernel, QEMU),
the cache folder and its space, and that the public sources answer. With --only phone, or a --device, that the phone can run
a machine: root, Android's version, processor, crosvm, hypervisor, TAP interfaces, free space.

Exit status: 0 when all is there, 3 when something is missing.`,
		Example: `  sov doctor
  sov doctor --arch amd64 --only tools
  sov doctor --only phone
  sov doctor --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkArch(arch); err != nil {
				return err
			}
			for _, group := range only {
				if !slices.Contains(doctorGroups, group) {
					return &usageError{fmt.Errorf("--only %s: know %s", group, strings.Join(doctorGroups, ", "))}
				}
			}
			if c.Flags().Changed("device") && !slices.Contains(only, "phone") {
				only = append(only, "phone")
			}
			findings := diagnose(c.Context(), arch, only)
			if slices.Contains(only, "phone") {
				found, err := checkPhones(c, arch, phones)
				if err != nil {
					return err
				}
				findings = append(findings, found...)
			}
			if err := printFindings(c.OutOrStdout(), findings, asJSON); err != nil {
				return err
			}
			missing := 0
			for _, f := range findings {
				if !f.OK {
					missing++
				}
			}
			if missing > 0 {
				return &foundError{fmt.Sprintf("%d of %d checks found something", missing, len(findings))}
			}
			return nil
		},
	}
	archFlag(c, &arch)
	c.Flags().StringSliceVar(&only, "only", usualGroups, "what to check: tools, cache, sources, phone")
	complete(c, "only", doctorGroups...)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	phones.addDevice(c)
	return c
}

// checkPhones looks at the phones that are meant.
func checkPhones(c *cobra.Command, arch string, f phoneFlags) ([]finding, error) {
	phones, err := f.choose(c)
	if err != nil {
		return nil, err
	}
	var findings []finding
	for _, p := range phones {
		found, err := preflight.Check(c.Context(), p, preflight.Need{Arch: arch})
		if err != nil {
			return nil, err
		}
		for _, one := range found {
			name := one.Check
			if len(phones) > 1 {
				name = p.Name() + " " + name
			}
			findings = append(findings, finding{Check: name, Group: "phone", OK: one.OK, Found: one.Found, Advice: one.Advice})
		}
	}
	return findings, nil
}

func printFindings(w io.Writer, findings []finding, asJSON bool) error {
	if asJSON {
		return printJSON(w, findings)
	}
	for _, f := range findings {
		verdict := "ok     "
		if !f.OK {
			verdict = "MISSING"
		}
		if _, err := fmt.Fprintf(w, "%s  %-18s %s\n", verdict, f.Check, f.Found); err != nil {
			return err
		}
		if f.Advice != "" {
			if _, err := fmt.Fprintf(w, "         %-18s → %s\n", "", f.Advice); err != nil {
				return err
			}
		}
	}
	return nil
}

func diagnose(ctx context.Context, arch string, groups []string) []finding {
	var findings []finding
	if slices.Contains(groups, "tools") {
		findings = append(findings, checkGo(ctx), checkKernelTools(ctx, arch), checkQEMU(arch))
	}
	if slices.Contains(groups, "cache") {
		findings = append(findings, checkCache())
	}
	if slices.Contains(groups, "sources") {
		findings = append(findings, checkSources(ctx)...)
	}
	return findings
}

func checkGo(ctx context.Context) finding {
	f := finding{Check: "Go toolchain", Group: "tools"}
	out, err := exec.CommandContext(ctx, "go", "version").Output()
	if err != nil {
		f.Found, f.Advice = "go is not there", "install Go from https://go.dev/dl: it compiles Tailscale for the guest"
		return f
	}
	f.OK, f.Found = true, strings.TrimSpace(string(out))
	return f
}

func checkKernelTools(ctx context.Context, arch string) finding {
	f := finding{Check: "kernel compiler", Group: "tools", OK: true, Found: "everything is there"}
	if err := kernelstage.CheckTools(ctx, arch); err != nil {
		f.OK, f.Found, f.Advice = false, err.Error(), "or give a finished kernel: sov build --kernel IMAGE"
	}
	return f
}

func checkQEMU(arch string) finding {
	f := finding{Check: "QEMU", Group: "tools"}
	path, err := qemu.Find(arch)
	if err != nil {
		f.Found, f.Advice = err.Error(), "needed by `sov run` only"
		return f
	}
	f.OK, f.Found = true, path
	return f
}

func checkCache() finding {
	f := finding{Check: "cache folder", Group: "cache", Advice: "set $SOV_CACHE_DIR to a folder on a larger or writable disk"}
	dir, err := cacheDir()
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		f.Found = err.Error()
		return f
	}
	probe, err := os.CreateTemp(dir, "doctor-")
	if err != nil {
		f.Found = err.Error()
		return f
	}
	probe.Close()
	os.Remove(probe.Name())
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		f.Found = err.Error()
		return f
	}
	free := int64(stat.Bavail) * int64(stat.Bsize)
	f.Found = fmt.Sprintf("%s, %s free", filepath.Clean(dir), progress.FormatSize(free))
	if free < buildSpace {
		f.Found += fmt.Sprintf(", a first build needs %s", progress.FormatSize(buildSpace))
		return f
	}
	f.OK, f.Advice = true, ""
	return f
}

// checkSources asks all public sources at once whether they answer.
func checkSources(ctx context.Context) []finding {
	sources := []struct{ name, url, advice string }{
		{"Docker Hub", "https://registry-1.docker.io/v2/", "use a mirror: sov build --image REF"},
		{"Alpine packages", "https://dl-cdn.alpinelinux.org/alpine/MIRRORS.txt", "use a mirror: sov build --repository URL"},
		{"kernel.org", kernel.SignatureURL(kernel.Version), "not needed where Debian's archive, a source (--with-kernel-source) or a kernel (--kernel) is at hand"},
	}
	findings := make([]finding, len(sources))
	var wait sync.WaitGroup
	for i, s := range sources {
		wait.Go(func() {
			findings[i] = finding{Check: s.name, Group: "sources"}
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

// answers reports whether a server answers at all; what it says (a registry asks for a login) does not matter.
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
