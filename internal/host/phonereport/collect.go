package phonereport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/host/device"
)

// properties are the Android properties that are collected. None identifies a phone among others of
// its model.
var properties = []string{
	"apex.all.ready", "apexd.status", "hypervisor.memory_reclaim.supported", "hypervisor.pvmfw.path",
	"hypervisor.virtualizationmanager.debug_policy.path", "hypervisor.virtualizationmanager.dump_device_tree",
	"ro.boot.hypervisor.protected_vm.supported", "ro.boot.hypervisor.version", "ro.boot.hypervisor.vm.supported", "ro.board.platform",
	"ro.build.fingerprint", "ro.build.type", "ro.build.version.release", "ro.build.version.sdk", "ro.build.version.security_patch",
	"ro.crosvm.network.setup.done", "ro.debuggable", "ro.product.cpu.abi", "ro.product.device", "ro.product.manufacturer", "ro.product.model",
	"ro.soc.manufacturer", "ro.soc.model", "sys.boot_completed",
}

// nodes are the device nodes that are collected, below /dev.
var nodes = "kvm gunyah gzvm vhost-vsock vhost-net tun net/tun"

// sysctls are the sysctls that are collected, below /proc/sys.
var sysctls = "net/ipv4/ip_forward net/ipv4/conf/all/rp_filter net/ipv4/conf/default/rp_filter net/ipv6/conf/all/forwarding net/ipv6/conf/all/disable_ipv6 kernel/pid_max vm/overcommit_memory"

// options matches the kernel options that are collected, without their prefix CONFIG_.
const options = "(KVM|VIRT|GUNYAH|GZVM|MTK_GZVM|VHOST|VSOCK|TUN|NETFILTER|NF_|IP_NF|IP6_NF|IP_MULTIPLE|IP_ADVANCED|BRIDGE|NET_CLS|NET_SCH|CGROUP|MEMCG|PM_WAKELOCKS|DMA_RESTRICTED|CMA|SECCOMP|USER_NS|NAMESPACES)"

// script prints the sections. It runs in mksh with toybox. Sections that a phone does not have are
// left out.
func script() string {
	var out strings.Builder
	add := func(name, command string) {
		fmt.Fprintf(&out, "printf '\\n%s%%s\\n' '%s'\n{ %s\n} 2>&1\n", mark, name, command)
	}
	add(Properties, "for p in "+strings.Join(properties, " ")+`; do v=$(getprop "$p"); [ -z "$v" ] || echo "[$p]: [$v]"; done`)
	add(Crosvm, `c=/apex/com.android.virt/bin/crosvm; echo "$c"; [ -x "$c" ] || echo "it is not there"`)
	add(CrosvmVersion, `"$c" version </dev/null`)
	add(CrosvmHelp, `"$c" run --help </dev/null`)
	add(Programs, "ls /apex/com.android.virt/bin")
	add(Nodes, "cd /dev; for n in "+nodes+`; do [ ! -e $n ] || stat -c '%a %u %g %t:%T %n' $n; done`)
	add(Labels, "cd /dev; for n in "+nodes+"; do [ ! -e $n ] || ls -dZ $n; done")
	add(Rules, "ip rule")
	add(Rules6, "ip -6 rule")
	add(Routes, "ip route show table all")
	add(Routes6, "ip -6 route show table all")
	add(Chains, "iptables-save | grep -v '^#' | sed 's/\\[[0-9]*:[0-9]*\\]/[0:0]/'")
	add(Chains6, "ip6tables-save | grep -v '^#' | sed 's/\\[[0-9]*:[0-9]*\\]/[0:0]/'")
	add(Sysctls, "cd /proc/sys; for f in "+sysctls+`; do [ ! -r $f ] || echo "$f=$(cat $f)"; done`)
	add(Cgroups, "grep cgroup /proc/mounts; cat /proc/self/cgroup")
	managers := ""
	for _, m := range phonepath.RootManagers {
		managers += fmt.Sprintf("[ ! -e %s ] || echo %s; ", m.Busybox, m.Name)
	}
	add(RootManager, managers+"su -v </dev/null; cat /proc/self/attr/current; echo")
	add(Applets, "toybox")
	add(Kernel, "uname -r -m")
	add(Config, "[ ! -r /proc/config.gz ] || zcat /proc/config.gz | grep -E '^CONFIG_"+options+"' | sort")
	add(VM, "/apex/com.android.virt/bin/vm info </dev/null")
	add(Power, `cd /sys/class/power_supply; for d in *; do for f in type capacity status; do [ ! -r $d/$f ] || echo "$d/$f=$(cat $d/$f)"; done; done; stat -c '%a %u %g %n' /sys/power/wake_*`)
	return out.String()
}

// Collect runs the script on a phone as root, and returns its output with addresses replaced.
func Collect(ctx context.Context, p device.Phone) (*Report, error) {
	var out bytes.Buffer
	err := p.Run(ctx, device.Command{Args: []string{"sh", "-c", script() + "\nexit 0"}, Stdout: device.Limited(&out)})
	if err != nil {
		return nil, fmt.Errorf("phone report: %w", err)
	}
	_, text, found := strings.Cut(new(redactor).redact(out.String()), mark)
	if !found {
		return nil, fmt.Errorf("phone report: %s printed nothing", p.Name())
	}
	r := &Report{}
	r.parse(mark + text)
	return r, nil
}

// Save collects a report and writes it to a file. If the file has a report already, the phone's
// present network is added to it as another scene.
func Save(ctx context.Context, p device.Phone, file string) error {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("phone report: %w", err)
	}
	var before *Report
	if err == nil {
		if before, err = Parse(string(text)); err != nil {
			return fmt.Errorf("%s: %w: name another file", file, err)
		}
	}
	r, err := Collect(ctx, p)
	if err != nil {
		return err
	}
	if before != nil {
		before.AddScene(r)
		r = before
	}
	return durable.WriteFile(file, []byte(r.String()), 0o644)
}
