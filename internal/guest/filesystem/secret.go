//go:build linux

package filesystem

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// WriteSecret writes a secret to a new file. No other user can read it at any time: it is written
// with mode 0, then gets its owner and last its mode. Missing parents belong to root.
func WriteSecret(f guestspec.SecretFile, value string) error {
	cred, _, err := process.Credential(f.User, "")
	if err != nil {
		return fmt.Errorf("secret %s: %w", f.Secret, err)
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return fmt.Errorf("secret %s: %w", f.Secret, err)
	}
	file, err := os.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("secret %s: %w", f.Secret, err)
	}
	_, err = file.WriteString(value)
	err = errors.Join(err, file.Chown(int(cred.Uid), int(cred.Gid)), unix.Fchmod(int(file.Fd()), parseMode(f.Mode)), file.Close())
	if err != nil {
		return fmt.Errorf("secret %s: %w", f.Secret, err)
	}
	return nil
}
