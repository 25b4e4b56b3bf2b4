package doctor

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/host/qemu"
	"github.com/sovereign-sql/sov/kernel"

	kernelstage "github.com/sovereign-sql/sov/stages/kernel"
)

const (
	// sourceBound is how long a public source may take to answer.
	sourceBound = 3 * time.Second
	// buildSpace is what a first build of one architecture needs in the cache folder, in bytes: the kernel's source
	// unpacked and compiled takes 2 GiB, Go's build cache for Tailscale half of that.
	buildSpace = 4 << 30
)

// A Finding is the result of one check of `sov doctor`.
type Finding struct {
	Check  string `json:"check"`
	Group  string `json:"group"` // "tools", "cache", "sources" or "phone"
	OK     bool   `json:"ok"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"` // what to do; only where OK is false
}

func CheckGo(ctx context.Context) Finding {
	f := Finding{Check: "Go toolchain", Group: "tools"}
	out, err := exec.CommandContext(ctx, "go", "version").Output()
	if err != nil {
		f.Found, f.Advice = "go is not there", "install Go from https://go.dev/dl: it compiles Tailscale for the guest"
		return f
	}
	f.OK, f.Found = true, strings.TrimSpace(string(out))
	return f
}

func CheckKernelTools(ctx context.Context, arch string) Finding {
	f := Finding{Check: "kernel compiler", Group: "tools", OK: true, Found: "everything is there"}
	if err := kernelstage.CheckTools(ctx, arch); err != nil {
		f.OK, f.Found, f.Advice = false, err.Error(), "or give a finished kernel: sov build --kernel IMAGE"
	}
	return f
}

func CheckQEMU(arch string) Finding {
	f := Finding{Check: "QEMU", Group: "tools"}
	path, err := qemu.Find(arch)
	if err != nil {
		f.Found, f.Advice = err.Error(), "needed by `sov run` only"
		return f
	}
	f.OK, f.Found = true, path
	return f
}

// CheckSources asks all public sources at once whether they answer.
func CheckSources(ctx context.Context) []Finding {
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
