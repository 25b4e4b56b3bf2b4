package guesttest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/internal/host/qemu"
	"github.com/sovereign-sql/sov/internal/testkit/childtest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
	"github.com/sovereign-sql/sov/stages/disk"
)

// A Bus is the bus of a disk image's disk.
type Bus string

// The tested buses.
const (
	VirtioBlock Bus = "virtio-blk"
	VirtioSCSI  Bus = "virtio-scsi"
	AHCI        Bus = "AHCI"
	NVMe        Bus = "NVMe"
)

// devices lists QEMU's devices for the disk and for the CD drive with the seed. The CD drive is on
// AHCI unless the bus supports CD drives.
var devices = map[Bus][]string{
	VirtioBlock: {"virtio-blk-pci,drive=disk,bootindex=0", "ahci,id=bus", "ide-cd,bus=bus.0,drive=seed"},
	VirtioSCSI:  {"virtio-scsi-pci,id=bus", "scsi-hd,bus=bus.0,drive=disk,bootindex=0", "scsi-cd,bus=bus.0,drive=seed"},
	AHCI:        {"ahci,id=bus", "ide-hd,bus=bus.0,drive=disk,bootindex=0", "ide-cd,bus=bus.1,drive=seed"},
	NVMe:        {"nvme,serial=sov,drive=disk,bootindex=0", "ahci,id=bus", "ide-cd,bus=bus.0,drive=seed"},
}

// DiskImage boots an artifact's disk image with UEFI on a QEMU machine without a config disk. The
// machine has an address from DHCP, a cloud-init seed in a CD drive, and a disk that is larger than
// the image. With again, DiskImage boots it a second time.
func DiskImage(t *testing.T, artifact, arch string, bus Bus, again bool) {
	t.Helper()
	dir := t.TempDir()
	image, err := os.Create(filepath.Join(dir, "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	err = disk.Write(t.Context(), image, func(name string) (*os.File, error) { return os.Open(filepath.Join(artifact, name)) })
	if err != nil {
		t.Fatal(err)
	}
	info, err := image.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := image.Truncate(info.Size() + 1<<30); err != nil { // as if written to a larger disk
		t.Fatal(err)
	}
	m := bareMachine{arch: arch, bus: bus, disk: image.Name(), seed: cloudSeed(t, map[string]string{
		"meta-data": "local-hostname: seeded.example\n", "user-data": "#cloud-config\nsov: {secrets: {role-app: of-the-seed}}\n"})}
	log := m.boot(t)
	shown := regexp.MustCompile(`(?m)^postgres: ([A-Z0-9]{26})\r?$`).FindStringSubmatch(log)
	if shown == nil {
		t.Fatalf("the console shows no password:\n%s", log)
	}
	for _, want := range []string{"network configured by DHCP", "data partition enlarged", "EFI v2"} {
		if !strings.Contains(log, want) {
			t.Errorf("the console does not say %q:\n%s", want, log)
		}
	}
	if strings.Contains(log, "invalid") { // a lease without a gateway
		t.Errorf("the console says that something is invalid:\n%s", log)
	}
	if strings.Contains(log, "of-the-seed") || regexp.MustCompile(`(?m)^app: `).MatchString(log) {
		t.Errorf("the console shows a password of the seed:\n%s", log)
	}
	name := m.ask(t, "postgres", shown[1], "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7); SELECT pg_read_file('/proc/sys/kernel/hostname')")
	if strings.TrimSpace(name) != "seeded" {
		t.Errorf("the machine calls itself %q", name)
	}
	if got := m.ask(t, "app", "of-the-seed", "SELECT current_user"); got != "app" {
		t.Errorf("app is %q", got)
	}
	sovtest.Await(t, sovtest.WaitLimit, "a larger file system", func() bool { return strings.Contains(m.log(t), "data disk enlarged") })
	m.powerButton(t)
	if !again {
		return
	}
	if log := m.boot(t); strings.Contains(log, "passwords of the database") || strings.Contains(log, "data partition enlarged") {
		t.Errorf("the second start is as the first:\n%s", log)
	}
	if got := m.ask(t, "postgres", shown[1], "SELECT n FROM kept"); got != "7" {
		t.Errorf("the second start has %q in the table", got)
	}
	m.powerButton(t)
}

// cloudSeed makes a CD image with a cloud-init seed and returns its path.
func cloudSeed(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"-quiet", "-volid", "cidata", "-joliet", "-rock", "-output", filepath.Join(dir, "seed.iso")}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	if out, err := exec.CommandContext(t.Context(), "genisoimage", args...).CombinedOutput(); err != nil {
		t.Fatalf("genisoimage: %v\n%s", err, out)
	}
	return filepath.Join(dir, "seed.iso")
}

// A bareMachine is a QEMU machine with firmware, as a hypervisor without support for sov starts it.
type bareMachine struct {
	arch       string
	bus        Bus
	disk, seed string

	console string // file
	port    int    // on 127.0.0.1, for PostgreSQL
	monitor string // socket
	done    chan error
}

// boot starts the machine, waits until the console reports that it is ready, and returns the
// console's output.
func (m *bareMachine) boot(t *testing.T) string {
	t.Helper()
	firmware, err := qemu.FindFirmware(m.arch)
	if err != nil {
		t.Fatal(err)
	}
	program, err := qemu.Find(m.arch)
	if err != nil {
		t.Fatal(err)
	}
	listen, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.port = listen.Addr().(*net.TCPAddr).Port
	listen.Close()
	dir, err := os.MkdirTemp("", "sov-bare-") // a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m.console, m.monitor = filepath.Join(dir, "console"), filepath.Join(dir, "monitor")
	board := map[string][]string{"amd64": {"-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max"},
		"arm64": {"-machine", "virt,gic-version=3", "-accel", "tcg,thread=multi", "-cpu", "max,pauth=off,sve=off"}}[m.arch]
	args := append(board, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-smp", "2", "-m", "1024M", "-bios", firmware,
		"-serial", "file:"+m.console, "-monitor", "unix:"+m.monitor+",server,nowait", "-device", "virtio-rng-pci",
		"-netdev", fmt.Sprintf("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:%d-:5432", m.port), "-device", "virtio-net-pci,netdev=net,romfile=",
		"-drive", "if=none,id=disk,format=raw,file="+m.disk, "-drive", "if=none,id=seed,format=raw,readonly=on,file="+m.seed)
	for _, device := range devices[m.bus] {
		args = append(args, "-device", device)
	}
	command := exec.Command(program, args...)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	if err := childtest.Start(command, nil); err != nil {
		t.Fatal(err)
	}
	m.done = make(chan error, 1)
	go func(done chan error) { done <- command.Wait() }(m.done)
	t.Cleanup(func() { command.Process.Kill() })
	start := time.Now()
	sovtest.Await(t, sovtest.WaitLimit, "a machine that is ready", func() bool {
		select {
		case err := <-m.done:
			t.Fatalf("QEMU has ended: %v %s\n%s", err, complaint.String(), m.log(t))
		default:
		}
		return strings.Contains(m.log(t), "info init: ready ")
	})
	t.Logf("%s, %s: ready %.1f s after power-on", m.arch, m.bus, time.Since(start).Seconds())
	return m.log(t)
}

func (m *bareMachine) log(t *testing.T) string {
	text, err := os.ReadFile(m.console)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

// ask logs in over the network and returns the first value of the last statement's result.
func (m *bareMachine) ask(t *testing.T, role, password, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sovtest.WaitLimit)
	defer cancel()
	conn, err := pgconn.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=%[2]s sslmode=require", m.port, role, password))
	if err != nil {
		t.Fatalf("log in as %s: %v\n%s", role, err, m.log(t))
	}
	defer conn.Close(context.Background())
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return string(results[len(results)-1].Rows[0][0])
}

// powerButton shuts the machine down cleanly.
func (m *bareMachine) powerButton(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("unix", m.monitor)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, "system_powerdown"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-m.done:
		if log := m.log(t); err != nil || !strings.Contains(log, `reason="power button"`) || !strings.Contains(log, "data disk unmounted") {
			t.Errorf("the machine ends: %v\n%s", err, log)
		}
	case <-time.After(sovtest.WaitLimit):
		t.Fatalf("the power button does not end the machine\n%s", m.log(t))
	}
}
