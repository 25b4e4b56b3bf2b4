//go:build !linux

package configdisk

import "errors"

// InMemory returns an error: only Linux has memfd_create.
func InMemory([]byte) (*Memory, error) { return nil, errors.ErrUnsupported }
