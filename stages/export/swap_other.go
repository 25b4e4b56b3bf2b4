//go:build !linux

package export

func swap(a, b string) error { return swapByRename(a, b) }
