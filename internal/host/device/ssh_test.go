package device_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/testkit/childtest"
)

// serveSSH starts sshd on loopback with new keys. It returns an ssh program that is configured for
// it under the name "phone".
func serveSSH(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: runs commands as root")
	}
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("needs sshd: Debian's package openssh-server")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, key := range []string{"host", "user", "stranger"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at(key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	listen, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listen.Addr().String())
	listen.Close()
	key, err := os.ReadFile(at("host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	const client = "Host phone stranger\n HostName 127.0.0.1\n Port %s\n User root\n IdentitiesOnly yes\n UserKnownHostsFile %s\n"
	for name, text := range map[string]string{
		"sshd_config": "ListenAddress 127.0.0.1:" + port + "\nHostKey " + at("host") + "\nAuthorizedKeysFile " + at("user.pub") +
			"\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n",
		"ssh_config": fmt.Sprintf(client, port, at("known")) + "Host phone\n IdentityFile " + at("user") + "\nHost stranger\n IdentityFile " + at("stranger") + "\n",
		"known":      "[127.0.0.1]:" + port + " " + string(key),
		"ssh":        "#!/bin/sh\nexec ssh -F " + at("ssh_config") + " \"$@\"\n",
	} {
		if err := os.WriteFile(at(name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd does not start without it
		t.Fatal(err)
	}
	var said bytes.Buffer
	server := exec.Command(sshd, "-D", "-e", "-f", at("sshd_config"))
	server.Stderr = &said
	if err := childtest.Start(server, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp4", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
			return at("ssh")
		}
		if time.Now().After(deadline) {
			t.Fatalf("start sshd: %v: %s", err, said.String())
		}
	}
}

func TestSSH(t *testing.T) {
	program := serveSSH(t)
	p, err := device.SSH(program, "phone")
	if err != nil {
		t.Fatal(err)
	}
	random := bytes.Repeat([]byte("\x00\xff~.\r\n'\""), 1<<17)
	var out, said bytes.Buffer
	err = p.Run(t.Context(), device.Command{Args: []string{"sh", "-c", `echo "it's $1" >&2; cat; exit 4`, "sh", "$x\n"}, Stdin: bytes.NewReader(random), Stdout: &out, Stderr: &said})
	var exit *device.ExitError
	if !errors.As(err, &exit) || exit.Status != 4 || said.String() != "it's $x\n\n" || !bytes.Equal(out.Bytes(), random) {
		t.Errorf("%d bytes of %d, %q, %v", out.Len(), len(random), said.String(), err)
	}
	text, err := device.Output(t.Context(), p, "sh", "-c", "setsid sleep 20 & echo started")
	if err != nil || string(text) != "started\n" {
		t.Errorf("a daemon that holds the pipes: %q, %v", text, err)
	}
	var lost *device.LostError
	for destination, says := range map[string]string{"stranger": "Permission denied", "nobody.invalid": "nobody.invalid"} {
		p, err := device.SSH(program, destination)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := device.Output(t.Context(), p, "true"); !errors.As(err, &lost) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", destination, err)
		}
	}
}
