// Package interop tests sov with third-party registries, root file systems and programs. It is a
// separate module, so that its dependencies are not in the product's go.mod. `make interop` runs
// it.
package interop
