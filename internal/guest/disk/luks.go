//go:build linux

package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// An encrypted disk has these states, also after a power cut:
//
//	guestspec.NewDiskMark is there     nothing was ever kept on it: it is encrypted anew
//	LUKS2 with the unformatted label   a key opens it, and what is in it is nothing yet: it is formatted
//	LUKS2 with the label of the disk   it is in use, and never formatted
//
// cryptsetup changes a header in two copies, one after the other, so that one of them is whole.

// mapping is the name of the decrypted device, mapper where it is.
func (d *Data) mapping() string { return d.Spec.Label }
func (d *Data) mapper() string  { return "/dev/mapper/" + d.mapping() }

// unformatted returns the label of an encrypted disk until its file system is complete.
func unformatted(label string) string {
	if label == guestspec.DataLabel {
		return "sov-new"
	}
	return "new " + label
}

// isLabel reports whether a LUKS2 header's label is that of a disk, formatted or not.
func isLabel(found, label string) bool { return found == label || found == unformatted(label) }

// isNew reports whether a disk is new and must be encrypted with the label.
func isNew(device, label string) bool {
	want := guestspec.NewDiskMark(label)
	mark, err := readAt(device, guestspec.NewDiskOffset, len(want))
	return err == nil && mark == want
}

// encryptKey returns the key in the recipe that enables the encryption of the disk.
func (d *Data) encryptKey() string {
	if d.Volume != "" {
		return "encrypted in volumes"
	}
	return "vm.encrypt"
}

// An encryptedDisk is the result of findEncrypted.
type encryptedDisk struct {
	device string
	isNew  bool   // it must be encrypted
	label  string // if it is not new
}

// findEncrypted returns the encrypted disk, or a new one that must be encrypted. It waits up to
// limit for a disk to appear. It ignores disks with an ext4 file system.
func (d *Data) findEncrypted(limit time.Duration) (encryptedDisk, error) {
	label, preferred := d.Spec.Label, d.Spec.Device
	for deadline := time.Now().Add(limit); ; time.Sleep(pollInterval) {
		var damaged error
		devices := blockDevices(preferred)
		for _, device := range devices {
			if isNew(device, label) {
				return encryptedDisk{device: device, isNew: true}, nil
			}
			found, ok, err := luksLabel(device)
			if ok && err == nil && isLabel(found, label) {
				return encryptedDisk{device: device, label: found}, nil
			}
			damaged = errors.Join(damaged, err)
		}
		if damaged != nil {
			return encryptedDisk{}, damaged
		}
		if time.Now().After(deadline) {
			for _, device := range devices {
				if found, ok := ext4Label(device); ok && (device == preferred || found == label) {
					return encryptedDisk{}, fmt.Errorf("%s is not encrypted, and the recipe wants it encrypted (%s): it is never converted", device, d.encryptKey())
				}
			}
			return encryptedDisk{}, fmt.Errorf("no disk with a LUKS2 header of label %s: is it attached, and was it made for a machine with %s?", label, d.encryptKey())
		}
	}
}

// unlock finds the encrypted disk, encrypts it if it is new, opens it, and formats it if it is not
// formatted completely. It returns the decrypted device.
func (d *Data) unlock(ctx context.Context) (device string, err error) {
	if d.Key == "" {
		return "", fmt.Errorf("no key of the encrypted %s came with this start (secret %s)", d.Name(), guestspec.SecretDataKey)
	}
	found, err := d.findEncrypted(d.Spec.Wait.Or(0))
	if err != nil {
		return "", err
	}
	keys, err := openKeys(d.Key, d.OldKey)
	if err != nil {
		return "", err
	}
	defer keys.close()
	l := luks{data: d, device: found.device, keys: keys}
	if found.isNew {
		if err := l.encrypt(ctx); err != nil {
			return "", fmt.Errorf("encrypt the new %s, %s: %w", d.Name(), found.device, err)
		}
		found.label = unformatted(d.Spec.Label)
	}
	if err := l.open(ctx); err != nil {
		return "", err
	}
	if found.label == unformatted(d.Spec.Label) {
		if err := l.format(ctx); err != nil {
			return "", fmt.Errorf("format the new %s, %s: %w", d.Name(), found.device, err)
		}
	}
	whole, err := deviceSize(found.device)
	if err != nil {
		return "", err
	}
	inside, err := deviceSize(d.mapper())
	if err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.encrypted, d.overhead = found.device, whole-inside
	return d.mapper(), nil
}

// luks works on one encrypted disk.
type luks struct {
	data   *Data
	device string
	keys   keys
}

// encrypt writes a LUKS2 header for the key and removes the mark of a new disk.
func (l luks) encrypt(ctx context.Context) error {
	// The key has 256 random bits, so its derivation may be cheap: a costly one is for passwords,
	// and Argon2 needs more memory than a small guest has. 1,000 is cryptsetup's minimum. 512 bits
	// mean AES-256 in XTS mode, which has two keys.
	err := l.run(ctx, "luksFormat", "--batch-mode", "--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512", "--hash", "sha256",
		"--sector-size", "4096", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--offset", fmt.Sprint(guestspec.NewDiskOffset/512),
		"--label", unformatted(l.data.Spec.Label), l.device, l.keys.key)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(l.device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil { // the header must be on the disk first
		return err
	}
	if _, err := f.WriteAt(make([]byte, 4096), guestspec.NewDiskOffset); err != nil {
		return err
	}
	return f.Sync()
}

// format makes the file system. The disk gets its label last: until then it does not contain data.
func (l luks) format(ctx context.Context) error {
	// One inode for 32 KiB, and no blocks reserved for root, as in package datadisk.
	program, err := l.data.find("mke2fs")
	if err != nil {
		return err
	}
	argv := []string{program, "-q", "-F", "-t", "ext4", "-m", "0", "-i", "32768", "-L", l.data.Spec.Label, "-E", "lazy_itable_init=1,nodiscard", l.data.mapper()}
	if err := l.data.command("mke2fs", argv...).Run(ctx, l.data.Reaper); err != nil {
		return err
	}
	if err := l.run(ctx, "config", l.device, "--label", l.data.Spec.Label); err != nil {
		return err
	}
	l.data.Console.Log(journal.Info, journal.InitName, l.data.Name()+" encrypted and formatted", "device", l.device)
	return nil
}

// open maps the disk with its key, or else with the old key, which it then replaces.
func (l luks) open(ctx context.Context) error {
	err := l.openBy(ctx, l.keys.key)
	if err == nil {
		l.note(l.removeOld(ctx))
		return nil
	}
	if !wrongKey(err) {
		return fmt.Errorf("open the encrypted %s, %s: %w", l.data.Name(), l.device, err)
	}
	wrong := fmt.Errorf("open the encrypted %s, %s: the key does not open it (secret %s): it is untouched; give the machine the key that it was encrypted with",
		l.data.Name(), l.device, guestspec.SecretDataKey)
	if l.keys.old == "" {
		return wrong
	}
	if err := l.openBy(ctx, l.keys.old); wrongKey(err) {
		return wrong
	} else if err != nil {
		return fmt.Errorf("open the encrypted %s, %s: %w", l.data.Name(), l.device, err)
	}
	l.note(l.changeKey(ctx))
	return nil
}

// note reports a failed change of the key. The disk is open, and the next start continues the
// change.
func (l luks) note(err error) {
	if err == nil {
		return
	}
	l.data.mu.Lock()
	l.data.oldKey = true
	l.data.mu.Unlock()
	l.data.Problem("change the key of the "+l.data.Name(), fmt.Errorf("%w: the old key still opens it; the next start tries again", err))
}

// openBy maps the disk.
func (l luks) openBy(ctx context.Context, key string) error {
	// Discards reveal which blocks of the disk's file are free, and let that file shrink.
	return l.run(ctx, "open", "--type", "luks2", "--disable-keyring", "--allow-discards", "--key-file", key, l.device, l.data.mapping())
}

// changeKey adds the key with the old one, verifies it, and removes the old one.
func (l luks) changeKey(ctx context.Context) error {
	err := l.run(ctx, "luksAddKey", "--batch-mode", "--disable-keyring", "--hash", "sha256", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000",
		"--key-file", l.keys.old, l.device, l.keys.key)
	if err != nil {
		return fmt.Errorf("add the key: %w", err)
	}
	if err := l.opens(ctx, l.keys.key); err != nil {
		return fmt.Errorf("try the added key: %w", err)
	}
	l.data.Console.Log(journal.Info, journal.InitName, l.data.Name()+" has a new key", "device", l.device)
	return l.removeOld(ctx)
}

// removeOld removes the old key if it still opens the disk.
func (l luks) removeOld(ctx context.Context) error {
	if l.keys.old == "" {
		return nil
	}
	switch err := l.opens(ctx, l.keys.old); {
	case wrongKey(err):
		return nil
	case err != nil:
		return err
	}
	if err := l.run(ctx, "luksRemoveKey", "--batch-mode", l.device, l.keys.old); err != nil {
		return err
	}
	l.data.Console.Log(journal.Info, journal.InitName, l.data.Name()+": the old key is removed", "device", l.device)
	return nil
}

// opens tests a key.
func (l luks) opens(ctx context.Context, key string) error {
	return l.run(ctx, "open", "--type", "luks2", "--disable-keyring", "--test-passphrase", "--key-file", key, l.device)
}

// growMapping enlarges the decrypted device of an encrypted disk to the disk's size.
func (d *Data) growMapping(ctx context.Context) error {
	if d.encrypted == "" {
		return nil
	}
	whole, err := deviceSize(d.encrypted)
	if err != nil {
		return err
	}
	inside, err := deviceSize(d.mapper())
	if err != nil || whole-inside <= d.overhead {
		return err
	}
	if err := (luks{data: d}).run(ctx, "resize", "--disable-keyring", d.mapping()); err != nil {
		return fmt.Errorf("enlarge the decrypted device: %w", err)
	}
	return nil
}

// wrongKey reports whether cryptsetup failed because no key slot matches: exit status 2
// (cryptsetup(8), Return codes).
func wrongKey(err error) bool {
	var end *process.ExitError
	return errors.As(err, &end) && end.Status.Exited() && end.Status.ExitStatus() == 2
}

func (l luks) run(ctx context.Context, args ...string) error {
	program, err := l.data.find("cryptsetup")
	if err != nil {
		return err
	}
	return l.data.command("cryptsetup", append([]string{program}, args...)...).Run(ctx, l.data.Reaper)
}

// find returns a program's path.
func (d *Data) find(name string) (string, error) {
	for _, dir := range filepath.SplitList(d.Path) {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode()&0o111 != 0 {
			return filepath.Join(dir, name), nil
		}
	}
	return "", fmt.Errorf("the image has no %s: build it again with %s: true", name, d.encryptKey())
}

// keys are the paths of the keys for a program: unnamed files in memory.
type keys struct {
	key, old string // old is empty if there is no old key, or if it is the same as key
	files    []*os.File
}

func openKeys(key, old string) (k keys, err error) {
	if k.key, err = k.add(key); err != nil || old == "" || old == key {
		return k, err
	}
	k.old, err = k.add(old)
	return k, err
}

func (k *keys) add(text string) (path string, err error) {
	fd, err := unix.MemfdCreate("key", unix.MFD_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("keep a disk's key in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "key")
	k.files = append(k.files, f)
	_, err = f.WriteString(text)
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), err
}

func (k *keys) close() {
	for _, f := range k.files {
		f.Close()
	}
}
