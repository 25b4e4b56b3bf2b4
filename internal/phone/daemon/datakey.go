package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
)

// A dataKeys holds the keys of an encrypted data disk that are not stored on this phone
// (vmspec.KeyOnHost), by the names of their secrets. They arrive through a socket that only root
// can access, exist as long as the daemon, and are never written to a file of this phone.
type dataKeys struct {
	given  chan struct{} // has a value after keys arrived; nil before serve
	listen net.Listener
	path   string // of the socket

	mu   sync.Mutex
	keys map[string]string
}

// lockedError says that the machine cannot be started without its key.
type lockedError struct{ name string }

func (e lockedError) Error() string {
	return fmt.Sprintf("the key of its data disk is not on this phone: `sov start %s` on the computer that keeps it sends it", e.name)
}

// maxKeys is the largest input of keys, in bytes.
const maxKeys = 4 << 10

// keyPatience is the timeout of a transfer of keys.
const keyPatience = 10 * time.Second

// serve accepts keys until close.
func (k *dataKeys) serve(vm phonepath.VM, log func(string)) error {
	if k.listen != nil {
		return nil
	}
	if err := lockMemory(); err != nil {
		return err
	}
	if err := os.Remove(vm.Keys()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listen, err := inFolder(vm.Keys(), func(path string) (net.Listener, error) { return net.Listen("unix", path) })
	if err == nil {
		err = os.Chmod(vm.Keys(), 0o600)
	}
	if err != nil {
		return fmt.Errorf("listen for the data disk's key: %w", err)
	}
	k.listen, k.path, k.given = listen, vm.Keys(), make(chan struct{}, 1)
	go func() {
		for {
			conn, err := listen.Accept()
			if err != nil {
				return // closed
			}
			if err := k.take(conn); err != nil {
				log("take the data disk's key: " + err.Error())
			}
			conn.Close()
		}
	}()
	return nil
}

// take reads keys and sends an error text, or nothing if it accepts them.
func (k *dataKeys) take(conn net.Conn) (err error) {
	conn.SetDeadline(time.Now().Add(keyPatience))
	defer func() {
		if err != nil {
			io.WriteString(conn, err.Error())
		}
	}()
	text, err := io.ReadAll(io.LimitReader(conn, maxKeys+1))
	if err != nil {
		return err
	}
	keys, err := decodeKeys(text)
	clear(text)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.keys = keys
	k.mu.Unlock()
	select {
	case k.given <- struct{}{}:
	default:
	}
	return nil
}

// get returns the keys, or nil. given reports keys that arrive later.
func (k *dataKeys) get() map[string]string {
	select {
	case <-k.given:
	default:
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.keys)
}

func (k *dataKeys) close() {
	if k.listen != nil {
		k.listen.Close()
		os.Remove(k.path) // it was created under another name; the next daemon removes a left-over one
	}
}

// decodeKeys decodes the format of UpOptions.Keys.
func decodeKeys(text []byte) (map[string]string, error) {
	var keys map[string]string
	if len(text) > maxKeys || json.Unmarshal(text, &keys) != nil { // json's errors may quote a key
		return nil, errors.New("the keys are not a JSON object of strings")
	}
	for name := range keys {
		if name != guestspec.SecretDataKey && name != guestspec.SecretOldDataKey {
			return nil, errors.New("there is a secret that is not a key of a data disk")
		}
	}
	if keys[guestspec.SecretDataKey] == "" {
		return nil, errors.New("there is no key of the data disk")
	}
	return keys, nil
}

// lockMemory keeps this process's memory out of swap and core dumps: keys are copied on their way
// to the config disk.
func lockMemory() error {
	// MCL_ONFAULT locks only used pages, not all memory that the runtime has reserved.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("keep the key out of swap: mlockall: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep the key out of core dumps: prctl: %w", err)
	}
	return nil
}

// inFolder calls do with a path that is short enough for a socket's address, however long its
// folder's path is.
func inFolder[T any](path string, do func(path string) (T, error)) (T, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		var none T
		return none, err
	}
	defer dir.Close()
	return do(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

// secretsOf returns the secrets for a machine's start: those stored on this phone, and the keys of
// an encrypted data disk. The error is a lockedError if the keys are missing.
func (d *Daemon) secretsOf(spec *vmspec.Spec) (map[string]string, error) {
	secrets, err := loadSecrets(d.Root, d.vm)
	if err != nil {
		return nil, err
	}
	if spec.DataKey() != vmspec.KeyOnPhone { // an earlier version may have left a key
		delete(secrets, guestspec.SecretDataKey)
		delete(secrets, guestspec.SecretOldDataKey)
	}
	switch spec.DataKey() {
	case vmspec.KeyOnHost:
		if err := d.keys.serve(d.vm, d.log); err != nil {
			return nil, unfitError{err}
		}
		keys := d.keys.get()
		if keys == nil {
			return nil, lockedError{d.Name}
		}
		if secrets == nil {
			secrets = map[string]string{}
		}
		maps.Copy(secrets, keys)
	case vmspec.KeyOnPhone:
		if secrets[guestspec.SecretDataKey] == "" {
			return nil, unfitError{fmt.Errorf("the key of its data disk is not among its secrets on this phone (%s): `sov push %s` sends it from the computer that keeps it",
				guestspec.SecretDataKey, d.Name)}
		}
	}
	return secrets, nil
}

// ReadKeys reads the keys for UpOptions, and keeps this process out of swap and core dumps from
// then on.
func ReadKeys(from io.Reader) ([]byte, error) {
	if err := lockMemory(); err != nil {
		return nil, err
	}
	keys, err := io.ReadAll(io.LimitReader(from, maxKeys+1))
	if err != nil {
		return nil, fmt.Errorf("read the data disk's key: %w", err)
	}
	if _, err := decodeKeys(keys); err != nil {
		return nil, fmt.Errorf("read the data disk's key: %w", err)
	}
	return keys, nil
}

// sendKeys sends the keys of a machine's data disk, in the format of decodeKeys, to its daemon when
// the daemon waits for them.
func sendKeys(ctx context.Context, vm phonepath.VM, keys []byte, died <-chan struct{}) error {
	for {
		conn, err := inFolder(vm.Keys(), func(path string) (net.Conn, error) { return net.Dial("unix", path) })
		if err == nil {
			return giveKeys(conn.(*net.UnixConn), keys)
		}
		if state, stateErr := readState(vm); stateErr == nil && rests(state.Phase) && state.Phase != runnerapi.Locked {
			return nil // awaitReady reports why it does not start
		}
		if hasEnded(died) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("give the daemon the data disk's key: %w: %w", ctx.Err(), err)
		case <-time.After(statePoll):
		}
	}
}

func giveKeys(conn *net.UnixConn, keys []byte) error {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(keyPatience))
	_, err := conn.Write(keys)
	if err == nil {
		err = conn.CloseWrite()
	}
	var answer []byte
	if err == nil {
		answer, err = io.ReadAll(io.LimitReader(conn, maxKeys))
	}
	if err == nil && len(answer) > 0 {
		err = errors.New(string(answer))
	}
	if err != nil {
		return fmt.Errorf("give the daemon the data disk's key: %w", err)
	}
	return nil
}
