// Package folders returns the paths of sov's folders on the user's computer: those of its
// environment variables, which are read with getenv, else the platform's default. It creates
// nothing.
package folders

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Cache returns the cache folder: $SOV_CACHE_DIR, else sov in the user's cache folder.
func Cache(getenv func(string) string) (string, error) {
	if dir := getenv("SOV_CACHE_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w: set $SOV_CACHE_DIR or --cache", err)
	}
	return filepath.Join(base, "sov"), nil
}

// State returns the folder of persistent data, such as the data disks of machines that run here:
// $SOV_STATE_DIR, else sov in $XDG_STATE_HOME (the XDG Base Directory Specification), else in
// ~/.local/state.
func State(getenv func(string) string) (string, error) {
	if dir := getenv("SOV_STATE_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sov"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the state folder: %w: set $SOV_STATE_DIR", err)
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", "sov"), nil
	}
	return filepath.Join(home, ".local", "state", "sov"), nil
}

// Config returns the folder of the user's configuration: $SOV_CONFIG_DIR, else sov in the user's
// configuration folder.
func Config(getenv func(string) string) (string, error) {
	if dir := getenv("SOV_CONFIG_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the configuration folder: %w: set $SOV_CONFIG_DIR", err)
	}
	return filepath.Join(base, "sov"), nil
}
