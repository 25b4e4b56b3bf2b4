package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/device"
)

// SendSecrets writes a machine's secrets, by name, to a folder of the phone that only root can
// read, and returns the names of those that were new or changed. Other secrets there are kept.
// Values are sent as file content, never as arguments.
func SendSecrets(ctx context.Context, p device.Phone, vm string, secrets map[string][]byte) (changed []string, err error) {
	places, err := p.Root().VM(vm)
	if err != nil || len(secrets) == 0 {
		return nil, err
	}
	dir := places.Secrets()
	// Protect the parent folder as well: it is created with the first machine's folder.
	prepare := device.Command{Args: []string{"sh", "-c", `umask 077 && mkdir -p "$1" && chmod 700 "$1" "$2"`, "sh", dir, path.Dir(dir)}}
	if err := p.Run(ctx, prepare); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if !guestspec.ValidSecretName(name) {
			return changed, fmt.Errorf("%q is not the name of a secret", name)
		}
		value, at := secrets[name], path.Join(dir, name)
		now, err := device.ReadFile(ctx, p, at)
		if err == nil && bytes.Equal(now, value) {
			continue
		}
		if exit := new(device.ExitError); err != nil && !errors.As(err, &exit) {
			return changed, err
		}
		if err := device.WriteFile(ctx, p, at, 0o600, bytes.NewReader(value), int64(len(value))); err != nil {
			return changed, err
		}
		changed = append(changed, name)
	}
	return changed, nil
}

// ReadSecret returns a secret of a machine on a phone; nil if it is not set.
func ReadSecret(ctx context.Context, p device.Phone, vm, name string) ([]byte, error) {
	has, err := HasSecret(ctx, p, vm, name)
	if err != nil || !has {
		return nil, err
	}
	places, err := p.Root().VM(vm)
	if err != nil {
		return nil, err
	}
	return device.ReadFile(ctx, p, path.Join(places.Secrets(), name))
}

// HasSecret reports whether a machine on a phone has a secret.
func HasSecret(ctx context.Context, p device.Phone, vm, name string) (bool, error) {
	places, err := p.Root().VM(vm)
	if err != nil {
		return false, err
	}
	err = p.Run(ctx, device.Command{Args: []string{"test", "-s", path.Join(places.Secrets(), name)}})
	if errors.As(err, new(*device.ExitError)) {
		return false, nil
	}
	return err == nil, err
}
