package sovtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// made maps the name of each build of this process to a function that builds once.
var made sync.Map

// Artifact returns the folder of the sql recipe's artifact for an architecture. The process builds
// it once.
func Artifact(t testing.TB, arch string) string {
	t.Helper()
	return Variant(t, arch, "sql", "")
}

// Variant returns the folder of the artifact of the sql recipe with changed keys, see SQL. The
// process builds it once for each name.
func Variant(t testing.TB, arch, name, keys string) string {
	t.Helper()
	return variant(t, arch, name, SharedLock(arch), keys)
}

// Encrypted returns the folder of the sql recipe's artifact with an encrypted data disk. place is
// where its key is: "phone" or "host". The artifact has additional packages, and so a separate lock
// file.
func Encrypted(t testing.TB, arch, place string) string {
	t.Helper()
	return variant(t, arch, "encrypted-"+place, filepath.Join(Shared, arch+"-encrypted.lock"),
		"vm: {encrypt: true, data_key: "+place+"}")
}

// Emulated returns build's flags for a machine whose processor is emulated, which Artifact uses. A
// phone takes seconds for a start; here other tests use the processor too. On a busy computer,
// emulated processors mostly wait for one another, so the machine has one. It has half of the
// memory, because a start touches all of it. TestDocuments runs machines as they are.
func Emulated() []string {
	return []string{"--set", "vm.ready.timeout=15m", "--set", "vm.cpus=1", "--set", "vm.memory=512MiB"}
}

func variant(t testing.TB, arch, name, lock, keys string) string {
	t.Helper()
	once, _ := made.LoadOrStore(arch+"/"+name, sync.OnceValues(func() (string, error) {
		dir, path := filepath.Join(Shared, arch, name), "sql"
		if keys != "" {
			path = filepath.Join(dir, "recipe.yaml")
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, SQL(keys), 0o644)); err != nil {
				return "", err
			}
		}
		command := exec.Command(Program, slices.Concat([]string{"build", path, "--arch", arch, "--lock", lock, "-o", dir}, Emulated(), FromMirror())...)
		result, err := Finish(command)
		folders, _ := filepath.Glob(filepath.Join(dir, "*", arch)) // the pattern is well formed
		if err == nil && (result.Status != 0 || len(folders) != 1) {
			err = errors.New(result.String())
		}
		if err != nil {
			return "", err
		}
		return folders[0], nil
	}))
	dir, err := once.(func() (string, error))()
	if err != nil {
		t.Fatalf("build %s for %s: %v", name, arch, err)
	}
	return dir
}

// SharedLock returns the path of the lock file for all builds of the sql recipe for an
// architecture.
func SharedLock(arch string) string { return filepath.Join(Shared, arch+".lock") }

// SQL returns a recipe that extends the sql recipe with keys.
func SQL(keys string) []byte { return []byte("extends: sql\n" + keys + "\n") }

// WithSetting returns the keys that change a setting of PostgreSQL.
func WithSetting(setting string) string { return "postgres: {settings: {" + setting + "}}" }

// ChangedSetting returns the folder of the sql recipe's artifact with one setting changed.
func ChangedSetting(t testing.TB) string {
	t.Helper()
	return Variant(t, "arm64", "changed-setting", WithSetting("log_min_duration_statement: 250"))
}

// OnTailnet returns the folder of the sql recipe's artifact for a control server, with more keys
// changed.
func OnTailnet(t testing.TB, arch, name, url, keys string) string {
	t.Helper()
	return Variant(t, arch, name, "tailscale: {login_server: \""+url+"\", tags: [\"tag:sql\"]}\n"+keys)
}

// hostile is a service for the sql recipe that runs scripts from its pipe, as root and with the
// rights of a service. It keeps the pipe open: a script must not be lost that is written while the
// shell of the one before ends.
const hostile = `services:
  - name: hostile
    command: [/bin/sh, -c, "mkfifo /run/hostile/pipe; exec 3<>/run/hostile/pipe; while :; do /bin/sh <&3; done"]
    directories: [{path: /run/hostile}]
`

// Hostile returns the folder of the sql recipe's artifact with a hostile service. Its control
// server is the discard port of the machine's host, which does not answer, so that the tests do not
// reach Tailscale's.
func Hostile(t testing.TB) string {
	t.Helper()
	return OnTailnet(t, "arm64", "hostile", "http://192.168.100.1:9", hostile)
}
