// Package interop tests sov against programs and systems of others: their registries, their root
// file systems. It is a module of its own, so that what those need stays out of the product's
// go.mod, and `make interop` runs it.
package interop
