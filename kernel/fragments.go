package kernel

import (
	_ "embed"
	"fmt"
)

var (
	//go:embed common.config
	commonConfig string
	//go:embed arm64.config
	arm64Config string
	//go:embed amd64.config
	amd64Config string
)

// A Fragment is a piece of kernel configuration, in the syntax of .config.
type Fragment struct {
	Name string // file name
	Text string
}

// Fragments returns the fragments of the configuration for an architecture ("arm64" or "amd64"), in
// the order in which they apply.
func Fragments(arch string) ([]Fragment, error) {
	common := Fragment{"common.config", commonConfig}
	switch arch {
	case "arm64":
		return []Fragment{common, {"arm64.config", arm64Config}}, nil
	case "amd64":
		return []Fragment{common, {"amd64.config", amd64Config}}, nil
	}
	return nil, fmt.Errorf("no kernel configuration for architecture %q: there are arm64 and amd64", arch)
}
