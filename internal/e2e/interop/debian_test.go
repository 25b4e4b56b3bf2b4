package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// newcomer is the script for an empty Debian. It installs the packages that doctor and the
// simulator report as missing, and then runs the three commands that lead to a psql prompt on the
// simulated phone. Its waits have no limit; the caller ends the script.
const newcomer = `
set -eu
cd /work
echo "=== doctor"
sov doctor --only tools >doctor.txt || true
cat doctor.txt
install=$(sed -n 's/^    \(apt-get install .*\)/\1/p' doctor.txt)
apt-get update >/dev/null
$install --yes >apt.txt 2>&1 || { cat apt.txt; exit 1; }
sov doctor --only tools

echo "=== the phone"
packages=$(sov-simulator 2>&1 | sed -n 's/.*: apt install //p')
apt-get install --no-install-recommends --yes $packages >apt.txt 2>&1 || { cat apt.txt; exit 1; }
sov-simulator --json >phone.txt 2>&1 &
phone=$!
until grep -q ready phone.txt; do
	kill -0 $phone || { cat phone.txt; exit 1; }
	sleep 0.2
done

echo "=== three commands"
sov build sql
sov push sql --start
printf 'select version();\n\\q\n' | script --quiet --return --command "sov psql sql" /dev/null
kill $phone
wait $phone || true
`

// TestDebian starts with the archive of a release in a root file system from debootstrap. Debian 12
// has no Go that is new enough, so the test mounts Go from this computer. It also mounts the cache,
// in which an earlier build has stored the kernel and Tailscale.
func TestDebian(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: debootstrap makes devices and other owners")
	}
	sovtest.Artifact(t, "arm64") // writes the lock
	checkout, _ := sovtest.Checkout(t)
	archive := makeRelease(t, checkout, "")
	root := t.TempDir()
	run(t, "", "debootstrap", "--variant=minbase", "bookworm", root, debianMirror(t))
	run(t, "", "tar", "-xzf", archive, "--strip-components=1", "-C", filepath.Join(root, "usr/local"))
	for _, dir := range []string{"work", "usr/local/go", "root/.cache/sov"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := os.ReadFile(sovtest.SharedLock("arm64"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"work/sov.lock": string(lock), "work/newcomer": newcomer} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The script runs in separate namespaces. When the test ends, so does every process in them.
	enter := `set -eu
mount --bind "$1" "$1"
for dir in dev sys; do mount --rbind "/$dir" "$1/$dir"; done
mount -t proc proc "$1/proc"
mount --bind -o ro "$2" "$1/usr/local/go"
mount --bind "$3" "$1/root/.cache/sov"
shift 3
exec chroot "$@"`
	goRoot := strings.TrimSpace(run(t, "", "go", "env", "GOROOT"))
	cache := strings.TrimSpace(run(t, "", "sh", "-c", `echo "${SOV_CACHE_DIR:-$HOME/.cache/sov}"`))
	command := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
		"sh", "-c", enter, "sh", root, goRoot, cache, root, "sh", "/work/newcomer")
	command.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin", "HOME=/root", "LC_ALL=C.UTF-8",
		"TERM=xterm", "PAGER=cat", "DEBIAN_FRONTEND=noninteractive", "ANDROID_ADB_SERVER_PORT=15037",
		"SOV_IMAGE=" + sovtest.Sources.Image(), "SOV_REPOSITORIES=" + strings.Join(sovtest.Sources.Repositories(), " ")}
	out, err := command.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	_, session, _ := strings.Cut(string(out), "=== three commands")
	for _, want := range []string{"postgres=#", "PostgreSQL", "on aarch64"} {
		if !strings.Contains(session, want) {
			t.Errorf("the session has no %q", want)
		}
	}
}
