// Package kconfig reads kernel images: their architecture, their release, and the configuration
// that a kernel built with CONFIG_IKCONFIG contains.
//
// It accepts a raw arm64 Image, a compressed one (Image.gz, Image.lz4, Image.zst, ...), and an x86
// bzImage with any compression of its payload except LZO. Images are untrusted input: every length
// is checked, and memory is limited.
package kconfig
