package crosvm

import "os"

// A phone's $PATH does not lead to the computer's QEMU.
func init() { os.Setenv("PATH", os.Getenv("PATH")+":/usr/bin") }
