package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// shellInit is a minimal init that starts the database. A script has no secret, so the cluster that
// it creates accepts all connections.
const shellInit = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/postgresql
chown 70:70 /run/postgresql
mount -t ext4 /dev/vdb /data
server=$(ls -d /usr/lib/postgresql/*/bin/postgres /usr/libexec/postgresql*/postgres 2>/dev/null | head -n 1)
settings="-c config_file=/etc/sov/postgres/postgresql.conf"
if [ ! -e /data/postgres/PG_VERSION ]; then
	mkdir -p /data/postgres
	chown 70:70 /data/postgres
	su postgres -s /bin/sh -c "${server%/postgres}/initdb -D /data/postgres --auth=trust --encoding=UTF8 --data-checksums --locale-provider=icu --icu-locale=und --locale=C" >/dev/null
	echo "host all all all trust" >/data/hba.conf
fi
[ ! -e /data/hba.conf ] || settings="$settings -c hba_file=/data/hba.conf"
mount -t tmpfs -o mode=0700,uid=70,gid=70 tmpfs /data/postgres/pg_dynshmem
ip link set lo up
ip addr add 192.168.100.2/24 dev eth0
ip link set eth0 up
ip route add default via 192.168.100.1
rm -f /data/postgres/postmaster.pid
su postgres -s /bin/sh -c "exec $server -D /data/postgres $settings"
poweroff -f
`

// BenchmarkBoot measures the time from QEMU's start to the first SQL session, which a client on the
// host opens.
func BenchmarkBoot(b *testing.B) {
	dir := sovtest.Artifact(b, "arm64")
	shell := withShellInit(b, dir)
	b.Run("first/sov-init", func(b *testing.B) {
		for b.Loop() {
			bootOnce(b, dir, b.TempDir())
		}
	})
	b.Run("first/shell-init", func(b *testing.B) {
		for b.Loop() {
			bootOnce(b, shell, b.TempDir())
		}
	})
	state := b.TempDir()
	bootOnce(b, dir, state)
	b.Run("second/sov-init", func(b *testing.B) {
		for b.Loop() {
			bootOnce(b, dir, state)
		}
	})
	b.Run("second/inside", func(b *testing.B) {
		benchInside(b, dir, state)
	})
	b.Run("second/shell-init", func(b *testing.B) {
		for b.Loop() {
			bootOnce(b, shell, state)
		}
	})
}

// benchInside measures by the guest's clock the time from the kernel's start until PostgreSQL
// accepts SQL, for a later start, and the memory in use when all services are ready.
func benchInside(b *testing.B, dir, state string) {
	var ready, used float64
	for b.Loop() {
		vm, err := localvm.Start(b.Context(), localvm.Options{Artifact: dir, State: state, Now: time.Now})
		if err != nil {
			b.Fatal(err)
		}
		var last *guestapi.Status
		err = vm.Ready(b.Context(), func(s *guestapi.Status) { last = s })
		if err == nil {
			err = vm.Shutdown(b.Context(), time.Minute)
		}
		if err := errors.Join(err, vm.Close()); err != nil {
			b.Fatal(err)
		}
		for _, s := range last.Services {
			if s.Name == "postgres" {
				ready += s.ReadyIn
			}
		}
		used += float64(last.Memory.Total-last.Memory.Available) / (1 << 20)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ready/float64(b.N), "s-kernel-to-SQL")
	b.ReportMetric(used/float64(b.N), "MiB-in-use")
}

// bootOnce measures the time until a session opens. It then stops the machine outside the
// measurement.
func bootOnce(b *testing.B, dir, state string) {
	console, err := os.Create(filepath.Join(b.TempDir(), "console"))
	if err != nil {
		b.Fatal(err)
	}
	defer console.Close()
	vm, err := localvm.Start(b.Context(), localvm.Options{Artifact: dir, State: state, Now: time.Now, Console: console})
	if err != nil {
		b.Fatal(err)
	}
	defer vm.Close()
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	// As in localvm's Ready: QEMU's network loses packets until the guest's interface is up, and a
	// new connection recovers sooner than a retransmission.
	for patience := 200 * time.Millisecond; ; patience = min(patience*3/2, 10*time.Second) {
		conn, err := connect(ctx, vm.URL(), patience)
		if err == nil {
			b.StopTimer()
			conn.Close(ctx)
			// The shell script cannot shut down cleanly. The time of sov-init's shutdown is not
			// measured.
			if _, shell := os.Stat(filepath.Join(dir, "shell")); shell != nil {
				if err := vm.Shutdown(ctx, time.Minute); err != nil {
					b.Fatal(err)
				}
			}
			b.StartTimer()
			return
		}
		if ctx.Err() != nil {
			text, _ := os.ReadFile(console.Name())
			b.Fatalf("no session within 2 minutes: %v\n%s", err, text)
		}
		<-retry.C
	}
}

func connect(ctx context.Context, url string, patience time.Duration) (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return pgconn.Connect(ctx, url)
}

// withShellInit returns a copy of the artifact with a shell script as its init.
func withShellInit(b *testing.B, dir string) string {
	b.Helper()
	out := withRootfs(b, dir, func(t *tree.Tree) error {
		return t.Put("sbin/shell-init", &tree.Inode{Mode: tree.S_IFREG | 0o755, ModTime: time.Unix(0, 0), Content: tree.Bytes([]byte(shellInit))})
	})
	copyWithInit(b, dir, out)
	if err := os.WriteFile(filepath.Join(out, "shell"), nil, 0o600); err != nil {
		b.Fatal(err)
	}
	return out
}

// withRootfs returns a folder that contains only the artifact's root file system, with a change.
func withRootfs(b *testing.B, dir string, change func(*tree.Tree) error) string {
	b.Helper()
	out := b.TempDir()
	image, err := ext4.OpenFile(filepath.Join(dir, "rootfs.img"))
	if err != nil {
		b.Fatal(err)
	}
	defer image.Close()
	t, err := image.Tree()
	if err == nil {
		err = change(t)
	}
	if err != nil {
		b.Fatal(err)
	}
	rootfs, err := os.Create(filepath.Join(out, "rootfs.img"))
	if err != nil {
		b.Fatal(err)
	}
	defer rootfs.Close()
	if _, err := ext4.Write(b.Context(), rootfs, t, ext4.Options{}); err != nil {
		b.Fatal(err)
	}
	return out
}

// copyWithInit copies the kernel and vm.json, with the other init on the kernel's command line.
func copyWithInit(b *testing.B, from, to string) {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(from, "vm.json"))
	if err != nil {
		b.Fatal(err)
	}
	spec, err := vmspec.Decode(text)
	if err != nil {
		b.Fatal(err)
	}
	for i, p := range spec.Parameters {
		if p == "init=/sbin/sov-init" {
			spec.Parameters[i] = "init=/sbin/shell-init"
		}
	}
	if text, err = spec.Encode(); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "vm.json"), text, 0o600); err != nil {
		b.Fatal(err)
	}
	kernel, err := filepath.Abs(filepath.Join(from, spec.Kernel))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.Symlink(kernel, filepath.Join(to, spec.Kernel)); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkBuild measures the whole program: a build with every stage cached, and a build after a
// changed setting of the database.
func BenchmarkBuild(b *testing.B) {
	sovtest.Artifact(b, "arm64")
	folder := b.TempDir()
	build := func(keys string) {
		b.Helper()
		if err := os.WriteFile(filepath.Join(folder, "sql.yaml"), sovtest.SQL(keys), 0o600); err != nil {
			b.Fatal(err)
		}
		command := exec.Command(sovtest.Program, append([]string{"build", "./sql.yaml", "--lock", sovtest.SharedLock("arm64")}, sovtest.FromMirror()...)...)
		command.Dir = folder
		if out, err := command.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	build("")
	b.Run("nothing-changed", func(b *testing.B) {
		for b.Loop() {
			build("")
		}
	})
	b.Run("one-setting-changed", func(b *testing.B) {
		n := time.Now().Unix() % 1e6 // a value that no earlier run has left in the cache
		for b.Loop() {
			n++
			build(sovtest.WithSetting(fmt.Sprintf("work_mem: %dkB", 1000+n)))
		}
	})
}
