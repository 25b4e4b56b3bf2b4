package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/push"
	"github.com/sovereign-sql/sov/internal/host/secrets"
)

// withDataKey returns the secrets of a machine that are stored on the phone: not those that stay on
// this computer, and the keys of its encrypted disks only if the recipe says so. It generates a key
// if none of these disks exists yet.
func (m *Machine) withDataKey(ctx context.Context, s *fleet.Site, all map[string][]byte) (map[string][]byte, error) {
	keep := maps.Clone(all)
	delete(keep, guestspec.SecretDataKey)
	delete(keep, guestspec.SecretOldDataKey)
	maps.DeleteFunc(keep, func(secret string, _ []byte) bool { return recipe.StaysHere(secret) })
	name, place := m.Artifact.Manifest.Name, m.Artifact.Spec.DataKey()
	if place == "" || m.MakeDataKey == nil {
		return keep, nil
	}
	key := all[guestspec.SecretDataKey]
	if key == nil {
		there, err := push.HasSecret(ctx, s, name, guestspec.SecretDataKey)
		if err != nil {
			return nil, err
		}
		if there && place == vmspec.KeyOnPhone {
			return keep, nil
		}
	}
	for _, d := range m.Artifact.Spec.Disks {
		if d.Key == "" {
			continue
		}
		disk := datadisk.Of(d)
		content, err := diskOn(ctx, s, name, disk)
		switch {
		case err != nil:
			return nil, err
		case content == plainDisk:
			return nil, fmt.Errorf("the %s of %s on %s is not encrypted, and an existing disk is never converted: with a version that does not encrypt it, `sov backup %[2]s FILE`, `sov remove %[2]s --data`; "+
				"then `sov push %[2]s --start`, `sov restore %[2]s FILE`", disk.Name(), name, s.Name())
		case key == nil && content == encryptedDisk:
			return nil, fmt.Errorf("the %s of %s on %s is encrypted, and its key is not on this computer: enter your copy with `sov secrets set %[2]s %[4]s`; the disk cannot be opened without it",
				disk.Name(), name, s.Name(), guestspec.SecretDataKey)
		}
	}
	if key == nil {
		var err error
		if key, err = m.MakeDataKey(); err != nil {
			return nil, err
		}
	}
	if place == vmspec.KeyOnHost {
		return keep, forgetDataKeys(ctx, s, name)
	}
	if keep == nil {
		keep = map[string][]byte{}
	}
	keep[guestspec.SecretDataKey] = key
	if old := all[guestspec.SecretOldDataKey]; old != nil {
		keep[guestspec.SecretOldDataKey] = old
	}
	return keep, nil
}

// Results of diskOn.
const (
	noDisk        = "none" // or a new one
	plainDisk     = "plain"
	encryptedDisk = "encrypted"
)

// diskOn determines the format of a machine's data disk or volume on a phone.
func diskOn(ctx context.Context, p device.Phone, name string, disk datadisk.Spec) (string, error) {
	places, err := p.Root().VM(name)
	if err != nil {
		return "", err
	}
	file := places.Data()
	if disk.Volume != "" {
		file = places.Volume(disk.Volume)
	}
	// The magic numbers of LUKS2 and, 1,080 bytes in, of ext4 (fs/ext4/ext4.h). od is in toybox.
	const script = `test -e "$1" || exit 0; od -An -tx1 -N6 "$1"; od -An -tx1 -j1080 -N2 "$1"`
	out, err := device.Output(ctx, p, "sh", "-c", script, "sh", file)
	if err != nil {
		return "", fmt.Errorf("look at the %s of %s on %s: %w", disk.Name(), name, p.Name(), err)
	}
	digits := bytes.Join(bytes.Fields(out), nil)
	switch {
	case bytes.HasPrefix(digits, []byte("4c554b53babe")):
		return encryptedDisk, nil
	case bytes.HasSuffix(digits, []byte("53ef")):
		return plainDisk, nil
	}
	return noDisk, nil
}

// forgetDataKeys removes keys that an earlier version stored on the phone.
func forgetDataKeys(ctx context.Context, p device.Phone, name string) error {
	places, err := p.Root().VM(name)
	if err != nil {
		return err
	}
	dir := places.Secrets()
	return p.Run(ctx, device.Command{Args: []string{"rm", "-f", path.Join(dir, guestspec.SecretDataKey), path.Join(dir, guestspec.SecretOldDataKey)}})
}

// DataKeys returns the standard input of sov-runner --keys, which starts a machine whose data
// disk's key is only on this computer; nil for other machines, and if there is no key here.
func DataKeys(ctx context.Context, s *fleet.Site, store *secrets.Store, name string) ([]byte, error) {
	kept, err := store.Has(name, guestspec.SecretDataKey)
	if err != nil || !kept {
		return nil, err
	}
	place, err := keyPlaceOn(ctx, s, name)
	if err != nil || place != vmspec.KeyOnHost {
		return nil, err
	}
	keys, err := dataKeysOf(ctx, store, name)
	if err != nil {
		return nil, err
	}
	given := map[string]string{}
	for secret, value := range keys {
		given[secret] = string(value)
	}
	return json.Marshal(given)
}

// SendDataKeys sends the keys that are stored here to a phone that stores the key of a machine's
// data disk. It fails for a machine whose data disk is not encrypted.
func SendDataKeys(ctx context.Context, s *fleet.Site, store *secrets.Store, name string) error {
	place, err := keyPlaceOn(ctx, s, name)
	if err != nil {
		return err
	}
	switch place {
	case vmspec.KeyOnHost:
		return nil // the phone gets it at each start
	case vmspec.KeyOnPhone:
	default:
		return fmt.Errorf("%s on %s: it is not installed, or its data disk is not encrypted (vm.encrypt)", name, s.Name())
	}
	keys, err := dataKeysOf(ctx, store, name)
	if err != nil {
		return err
	}
	_, err = push.SendSecrets(ctx, s, name, keys)
	return err
}

// CheckRekeyed reports why the data disk of a machine that was just started may still be opened by
// its old key.
func CheckRekeyed(ctx context.Context, s *fleet.Site, name string) error {
	now, err := Status(ctx, s, name)
	if err != nil {
		return err
	}
	encrypted, changed := false, now.Guest != nil
	for _, d := range now.Disks {
		encrypted = encrypted || d.Encryption != ""
		changed = changed && d.Fault == "" && !d.OldKey
	}
	if !encrypted || !changed {
		return fmt.Errorf("%s on %s: its data disk may still have the old key: `sov status %[1]s` says why; run `sov rekey %[1]s` again to continue", name, s.Name())
	}
	return nil
}

// keyPlaceOn returns where the key of the data disk is stored according to the current version on a
// phone; empty if none is installed.
func keyPlaceOn(ctx context.Context, s *fleet.Site, name string) (vmspec.KeyPlace, error) {
	places, err := s.Root().VM(name)
	if err != nil {
		return "", err
	}
	text, err := device.ReadFile(ctx, s, path.Join(places.Current(), artifact.SpecFile))
	if errors.As(err, new(*device.ExitError)) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var spec vmspec.Spec // may be of another release of sov
	if err := json.Unmarshal(text, &spec); err != nil {
		return "", fmt.Errorf("%s on %s: vm.json: %w", name, s.Name(), err)
	}
	return spec.DataKey(), nil
}

// dataKeysOf returns the stored keys of a machine's data disk.
func dataKeysOf(ctx context.Context, store *secrets.Store, name string) (map[string][]byte, error) {
	all, err := store.All(ctx, name)
	if err != nil {
		return nil, err
	}
	keys := map[string][]byte{}
	for _, secret := range []string{guestspec.SecretDataKey, guestspec.SecretOldDataKey} {
		if value, ok := all[secret]; ok {
			keys[secret] = value
		}
	}
	return keys, nil
}
