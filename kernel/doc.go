// Package kernel says which kernel the guest runs: the version and where its
// source may come from (source.go), the configuration it is built with
// (*.config, on top of allnoconfig) and the options without which the guest
// does not work, each with its reason (requirements.go).
//
// The package holds data and answers questions about it. Package stages/kernel builds kernels.
// Package internal/image/kconfig reads the configuration of a built kernel.
package kernel
