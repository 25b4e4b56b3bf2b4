// Package kconfig reads kernel images: which architecture they are for, which
// release they are, and the configuration that a kernel built with
// CONFIG_IKCONFIG carries inside itself.
//
// It takes what people have at hand: a raw arm64 Image, the same compressed as
// a whole (Image.gz, Image.lz4, Image.zst, ...), and an x86 bzImage whatever
// its payload is compressed with, except LZO. Images are bytes from outside:
// every length is checked, and nothing grows beyond a limit.
package kconfig
