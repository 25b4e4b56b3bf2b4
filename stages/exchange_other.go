//go:build !linux

package stages

func exchange(a, b string) error { return exchangeByRename(a, b) }
