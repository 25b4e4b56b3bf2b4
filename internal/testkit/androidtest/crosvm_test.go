package androidtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
)

// A bench is a phone with the files of a machine, for tests of the stand-in for crosvm.
type bench struct {
	*Phone
	t       *testing.T
	release crosvmcli.Release
}

const program = "/apex/com.android.virt/bin/crosvm"

func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	o.InMemory = true
	p := New(t, o)
	config, err := configdisk.Encode(configdisk.Config{Hostname: "light", Token: strings.Repeat("t", 32),
		Network: configdisk.Network{Address: netip.MustParsePrefix("192.168.100.2/24"), Gateway: netip.MustParseAddr("192.168.100.1"), MTU: 1500}})
	if err != nil {
		t.Fatal(err)
	}
	p.put("/data/config", config)
	p.put("/data/disk", make([]byte, 4096))
	p.put("/data/nothing", make([]byte, 4096))
	b := &bench{p, t, o.Build.Release}
	b.script(lightguest.Script{})
	return b
}

func (b *bench) script(s lightguest.Script) {
	b.t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		b.t.Fatal(err)
	}
	b.put("/data/kernel", text)
}

// crosvm runs the stand-in to its end. It returns the exit status, -1 if a signal ended it, and the
// combined output.
func (b *bench) crosvm(words string) (int, string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	command := b.Command(ctx, append([]string{program}, strings.Fields(words)...)...)
	out, err := command.CombinedOutput()
	if ctx.Err() != nil {
		b.t.Fatalf("%s does not end: %s", words, out)
	}
	if err != nil && command.ProcessState == nil {
		b.t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), string(out)
}

// A background is a running crosvm with a machine.
type background struct {
	command *exec.Cmd
	pid     int
}

// start starts a machine and waits until its control socket exists.
func (b *bench) start(words string) *background {
	b.t.Helper()
	before := len(b.CrosvmStarts())
	command := b.Command(b.t.Context(), append([]string{program}, strings.Fields(words)...)...)
	if err := command.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.Eventually("started", func() bool { return len(b.CrosvmStarts()) > before })
	g := &background{command, b.CrosvmStarts()[before].PID}
	b.Eventually("at its socket", func() bool { _, err := os.Stat(b.File("/data/s")); return err == nil })
	return g
}

// run returns the arguments of a machine that every release accepts.
func (b *bench) run(more string) string {
	return "run --disable-sandbox --socket /data/s --rwdisk /data/disk --disk /data/config " + more + " /data/kernel"
}

func (b *bench) expect(words string, status int, says string) {
	b.t.Helper()
	if got, out := b.crosvm(words); got != status || !strings.Contains(out, says) {
		b.t.Errorf("Android %s: crosvm %s: exit status %d, want %d, with %q: %s", b.release, words, got, status, says, out)
	}
}

func onEachRelease(t *testing.T, test func(t *testing.T, b *bench, old bool)) {
	t.Parallel()
	for _, r := range crosvmcli.Releases {
		t.Run(string(r), func(t *testing.T) {
			t.Parallel()
			test(t, newBench(t, Options{Build: DefaultBuild(r)}), r == crosvmcli.Android13)
		})
	}
}

// TestCrosvmRefuses checks which arguments each release rejects, and with which message.
func TestCrosvmRefuses(t *testing.T) {
	onEachRelease(t, func(t *testing.T, b *bench, old bool) {
		either := func(on13, later int) int {
			if old {
				return on13
			}
			return later
		}
		word := func(on13, later string) string {
			if old {
				return on13
			}
			return later
		}
		b.expect("run --bogus /data/kernel", either(1, 35), word("Unrecognized argument: --bogus", "arg parsing failed: Unrecognized argument: --bogus"))
		b.expect("--extended-status run --bogus /data/kernel", either(1, 35), "")
		b.expect("run --extended-status /data/kernel", either(1, 35), "")
		b.expect("--log-level debug version", either(1, 0), "")
		b.expect("", either(0, 35), "")
		b.expect("run", 1, "Executable is not specified")
		b.expect("run --help", 0, "--rwdisk")
		b.expect("version", 0, "crosvm 0.1.0")
		b.expect("stop /data/nowhere", 1, "")
		b.expect("run --rwdisk /data/nowhere /data/kernel", 1, word("this path does not exist", "failed to open disk file \"/data/nowhere\"\n\nCaused by:\n    No such file or directory (os error 2)"))
		b.expect("run /data/nowhere", 1, word("this path does not exist", "failed to open kernel image"))
		b.expect("run --serial type=file /data/kernel", 1, "")
		if !old {
			b.expect("run /data/nothing", 1, "invalid magic number")
			b.expect("run --hypervisor gunyah /data/kernel", 1, "failed to open gunyah device")
		}
		b.put("/data/s", nil)
		b.expect(b.run(""), 1, word("this socket path already exists", "failed to create control server\n\nCaused by:\n    Address already in use (os error 98)"))
	})
}

// TestCrosvmEnds checks crosvm's exit status for each end of a guest.
func TestCrosvmEnds(t *testing.T) {
	onEachRelease(t, func(t *testing.T, b *bench, old bool) {
		for end, want := range map[lightguest.End]int{lightguest.Off: 0, lightguest.Reset: 32, lightguest.Crash: 33, lightguest.Panic: 34,
			lightguest.BarePanic: 32, lightguest.Watchdog: 36, lightguest.SystemCrash: 0, lightguest.Failed: 1} {
			if old && end == lightguest.Watchdog {
				want = 0
			}
			b.script(lightguest.Script{End: end})
			b.expect("--extended-status "+b.run(""), want, "")
			if end != lightguest.Failed {
				want = 0
			}
			b.expect(b.run(""), want, "")
		}
	})
}

// TestCrosvmRuns checks the answers to clients, which ends remove the socket, and disk locks.
func TestCrosvmRuns(t *testing.T) {
	onEachRelease(t, func(t *testing.T, b *bench, old bool) {
		g := b.start("--extended-status " + b.run("--tap-name nobody0"))
		b.Eventually("with an interface", func() bool { return strings.Contains(b.Shell("ip -brief link"), "nobody0") }) // crosvm made it
		b.expect("suspend /data/s", 0, "")
		b.expect("resume /data/s", 0, "")
		if old {
			b.expect("powerbtn /data/s", 0, "Operation not supported on transport endpoint (os error 95)")
		} else {
			b.expect("powerbtn /data/s", 1, "unexpected response: error: Operation not supported on transport endpoint (os error 95)")
		}
		b.expect("balloon 1048576 /data/s", 0, "")
		b.expect("balloon_stats /data/s", 0, "balloon_actual")
		b.expect("run --rwdisk /data/disk /data/kernel", 1, "lock")
		b.expect("run --disk /data/disk /data/kernel", 1, "lock")
		b.script(lightguest.Script{End: lightguest.Off})
		b.expect("run --disk /data/config /data/kernel", 0, "") // readers share the lock
		if b.release.AtLeast(crosvmcli.Android15QPR1) {
			b.expect("run --block path=/data/disk,lock=false /data/kernel", 0, "")
		}
		b.script(lightguest.Script{})
		b.expect("stop /data/s", 0, "")
		if err := g.command.Wait(); err != nil {
			t.Errorf("stopped: %v", err)
		}
		if _, err := os.Stat(b.File("/data/s")); err == nil {
			t.Error("the socket of a crosvm that was stopped is there")
		}
		if strings.Contains(b.Shell("ip -brief link"), "nobody0") {
			t.Error("the interface that crosvm made outlives it")
		}
		for _, signal := range []string{"TERM", "KILL", "HUP"} {
			g = b.start(b.run("--tap-name nobody0"))
			b.Shell(fmt.Sprintf("kill -%s %d", signal, g.pid))
			if err := g.command.Wait(); err == nil {
				t.Errorf("%s did not end it", signal)
			}
			if err := os.Remove(b.File("/data/s")); err != nil {
				t.Errorf("the socket after %s: %v", signal, err)
			}
		}
	})
}

// TestLightAfterQEMU checks a light guest on an interface that QEMU left with longer frame headers:
// a phone keeps the interface when it replaces a version of a machine.
func TestLightAfterQEMU(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	var tap *os.File
	err := b.InNetwork(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		tap = os.NewFile(uintptr(fd), "tap")
		request, err := unix.NewIfreq("vm_light")
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		const long = 12 // includes the number of buffers
		return errors.Join(unix.IoctlIfreq(fd, unix.TUNSETIFF, request), unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, long))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	b.Shell("ip addr add 192.168.100.1/24 dev vm_light; ip link set vm_light up; ip rule add pref 1 to 192.168.100.0/24 lookup main")
	command := b.Command(t.Context(), append([]string{program}, strings.Fields(b.run("--net tap-fd=3"))...)...)
	command.ExtraFiles = []*os.File{tap}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	b.Eventually("reached", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		conn, err := b.Dial(ctx, "tcp", fmt.Sprintf("192.168.100.2:%d", lightguest.PostgresPort))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// TestCrosvmHypervisors checks which machines each hypervisor runs.
func TestCrosvmHypervisors(t *testing.T) {
	t.Parallel()
	gunyah := crosvmcli.Build{Release: crosvmcli.Android15, WithoutFirmware: true}
	b := newBench(t, Options{Build: gunyah, Hypervisor: Gunyah})
	b.script(lightguest.Script{End: lightguest.Off})
	b.expect(b.run(""), 1, "failed to initialize virtual machine")
	b.expect(b.run("--protected-vm-without-firmware --mem 2"), 0, "") // containers may lock 8 MiB at most
	limited := b.Command(t.Context(), "/bin/sh", "-c", "ulimit -l 64; exec "+program+" "+b.run("--protected-vm-without-firmware --mem 2"))
	if out, err := limited.CombinedOutput(); err == nil || !strings.Contains(string(out), "Out of memory (os error 12)") {
		t.Errorf("with little memory that may be locked: %v: %s", err, out)
	}
	none := newBench(t, Options{Build: DefaultBuild(crosvmcli.Android15), Hypervisor: NoHypervisor})
	none.expect(none.run(""), 1, "no enabled hypervisor")
	old := newBench(t, Options{Build: DefaultBuild(crosvmcli.Android13), Hypervisor: Gunyah}) // release 13 supports only KVM
	old.expect(old.run(""), 1, "/dev/kvm")
}

// TestNodes checks the modes and owners of the phone's device nodes.
func TestNodes(t *testing.T) {
	onEachRelease(t, func(t *testing.T, b *bench, old bool) {
		want := "666 0 0\n666 0 0\n660 1000 1016\n../tun\n"
		if old {
			want = "600 1000 1000\n600 1000 1000\n660 1000 1016\n../tun\n"
		}
		if got := b.Shell("stat -c '%a %u %g' /dev/kvm /dev/vhost-vsock /dev/tun; readlink /dev/net/tun"); got != want {
			t.Errorf("Android %s: %q, want %q", b.release, got, want)
		}
	})
}
