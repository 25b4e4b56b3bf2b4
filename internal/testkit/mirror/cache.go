package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

// A cache is the mirror's persistent folder:
//
//	lock                   held while a mirror prepares contents
//	key.pem                the private key of the packages, 0600
//	keys/NAME.rsa.pub      its public half
//	debs/ARCH-ID/          Debian's packages from apt; ID is a hash of the request
//	content/ARCH-ID/       served content, made from debs; see content
//	tmp/                   unfinished files; the holder of the lock removes them
//
// A file or folder with its final name is complete.
type cache struct{ dir string }

// openCache creates the folder if it does not exist. An empty dir is sov/mirror in the user's cache
// folder.
func openCache(dir string) (cache, error) {
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return cache{}, fmt.Errorf("find the user's cache folder: %w", err)
		}
		dir = filepath.Join(user, "sov", "mirror")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return cache{}, err
	}
	for _, sub := range []string{"keys", "debs", "content", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return cache{}, fmt.Errorf("make the mirror's cache folder: %w", err)
		}
	}
	return cache{dir}, nil
}

func (c cache) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

// lock waits until no other process prepares contents in the cache, and locks the cache.
func (c cache) lock(ctx context.Context, log func(string, ...any)) (unlock func(), err error) {
	l, err := durable.WaitLock(ctx, c.path("lock"), durable.Exclusive, durable.LockOptions{
		Perm:   0o644,
		OnWait: func(int) { log("waiting for another mirror that is preparing %s", c.dir) },
	})
	if err != nil {
		return nil, fmt.Errorf("lock the mirror's cache: %w", err)
	}
	return l.Release, nil
}

// clean removes the leftovers of an interrupted mirror. The caller holds the lock.
func (c cache) clean() error {
	left, err := os.ReadDir(c.path("tmp"))
	if err != nil {
		return err
	}
	for _, entry := range left {
		if err := os.RemoveAll(c.path("tmp", entry.Name())); err != nil {
			return fmt.Errorf("remove an interrupted mirror's leftovers: %w", err)
		}
	}
	return nil
}

// create creates the folder final with the files that fill writes to a temporary folder. It
// replaces an existing folder.
func (c cache) create(final string, fill func(dir string) error) error {
	dir, err := os.MkdirTemp(c.path("tmp"), filepath.Base(final)+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := fill(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(final); err != nil {
		return err
	}
	return os.Rename(dir, final)
}

// key returns the signing key of the packages and the path of its public half. Each cache generates
// its key once: a system that trusts the key does not trust other computers' mirrors.
func (c cache) key() (key *apkbuild.Key, publicFile string, err error) {
	pem, err := os.ReadFile(c.path("key.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		pem, err = c.newKey()
	}
	if err != nil {
		return nil, "", fmt.Errorf("load the mirror's signing key: %w", err)
	}
	key, err = apkbuild.ParseKey("sov-mirror", pem)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w; remove it to have another made", c.path("key.pem"), err)
	}
	public, err := key.PublicPEM()
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(public)
	key.Name = "sov-mirror-" + hex.EncodeToString(sum[:4]) + ".rsa.pub"
	publicFile = c.path("keys", key.Name)
	return key, publicFile, c.writeFile(publicFile, public, 0o644)
}

func (c cache) newKey() ([]byte, error) {
	key, err := apkbuild.NewKey("sov-mirror")
	if err != nil {
		return nil, err
	}
	pem, err := key.PrivatePEM()
	if err != nil {
		return nil, err
	}
	return pem, c.writeFile(c.path("key.pem"), pem, 0o600)
}

// writeFile writes a file atomically.
func (c cache) writeFile(name string, data []byte, mode fs.FileMode) error {
	return durable.WriteFile(name, data, mode, durable.In(c.path("tmp")))
}

// fileDigest returns the SHA-256 of a file in hexadecimal.
func fileDigest(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
