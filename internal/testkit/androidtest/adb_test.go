package androidtest

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	status := m.Run()
	RemovePrograms()
	os.Exit(status)
}

// TestADB checks that Debian's adb works with this daemon.
func TestADB(t *testing.T) {
	p := New(t, Options{})
	a := p.ServeADB(ADBOptions{})
	s := NewADBServer(t)
	s.Connect(a)
	if list := s.Run("devices", "-l"); !strings.Contains(list, "model:Simulated_Phone") {
		t.Errorf("adb devices: %s", list)
	}
	var out, said bytes.Buffer
	if err := s.exec(&out, &said, "-s", a.Serial(), "shell", "id -u; echo oops >&2"); err != nil || out.String() != "2000\n" || said.String() != "oops\n" {
		t.Errorf("adb shell: %v, %q, %q", err, out.String(), said.String())
	}
	if _, err := s.run("-s", a.Serial(), "shell", "exit 7"); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("exit 7: %v", err)
	}
	if out := s.Run("-s", a.Serial(), "exec-out", "su -c 'id -u'"); out != "0\n" {
		t.Errorf("adb exec-out: %q", out)
	}
	content := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(content)
	local, back := filepath.Join(t.TempDir(), "local"), filepath.Join(t.TempDir(), "back")
	if err := os.WriteFile(local, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Run("-s", a.Serial(), "push", local, "/data/local/tmp/a file")
	s.Run("-s", a.Serial(), "pull", "/data/local/tmp/a file", back)
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, content) {
		t.Errorf("pulled %d bytes of %d, %v", len(got), len(content), err)
	}
	if out := s.Run("-s", a.Serial(), "shell", "ls /data/local/tmp"); out != "a file\n" {
		t.Errorf("ls: %q", out)
	}
	if out, err := s.run("-s", a.Serial(), "push", local, "/data/sovereign/x"); err == nil || !strings.Contains(out, "Permission denied") {
		t.Errorf("the shell user may write to /data/sovereign: %s", out)
	}
}

// FuzzADBMessage checks that an encoded message decodes to the same message.
func FuzzADBMessage(f *testing.F) {
	f.Add(adbMessage{command: adbConnect, arg0: adbVersion, arg1: adbMaxPayload, data: []byte("host::")}.append(nil))
	f.Add(adbMessage{command: adbWrite, arg0: 1, arg1: 2, data: make([]byte, 300)}.append(nil)[:100])
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := readADB(bytes.NewReader(text))
		if err != nil {
			return
		}
		again, err := readADB(bytes.NewReader(m.append(nil)))
		if err != nil || again.command != m.command || again.arg0 != m.arg0 || again.arg1 != m.arg1 || !bytes.Equal(again.data, m.data) {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}

// FuzzShellPacket checks that an encoded packet equals the bytes that it was read from.
func FuzzShellPacket(f *testing.F) {
	f.Add(appendPacket(nil, packetStdin, []byte("input")))
	f.Add(appendPacket(nil, packetExit, []byte{7}))
	f.Fuzz(func(t *testing.T, text []byte) {
		kind, data, err := readPacket(bytes.NewReader(text))
		if err != nil {
			return
		}
		if again := appendPacket(nil, kind, data); !bytes.HasPrefix(text, again) {
			t.Errorf("%q was read as %d %q", text, kind, data)
		}
	})
}
