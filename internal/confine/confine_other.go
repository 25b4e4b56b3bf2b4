//go:build !linux

package confine

import (
	"context"
	"fmt"
	"runtime"
)

// Check returns an error that wraps ErrUnsupported and names the reason.
func Check(context.Context) error {
	return fmt.Errorf("%w: %s has no namespaces", ErrUnsupported, runtime.GOOS)
}

func (c Command) confined(ctx context.Context) error { return Check(ctx) }
