//go:build !linux

package configdisk

import "errors"

// InMemory is an error: only Linux has files that are in no file system.
func InMemory([]byte) (*Memory, error) { return nil, errors.ErrUnsupported }
