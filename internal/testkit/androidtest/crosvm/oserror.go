package crosvm

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// osError formats an error like Rust: the C library's text with the number.
func osError(err error) string {
	var number syscall.Errno
	if !errors.As(err, &number) {
		return err.Error()
	}
	text := number.Error()
	switch number {
	case syscall.ENOTSUP:
		text = "operation not supported on transport endpoint"
	case syscall.ENOMEM:
		text = "out of memory"
	}
	return fmt.Sprintf("%s (os error %d)", strings.ToUpper(text[:1])+text[1:], int(number))
}
