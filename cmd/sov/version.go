package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/embedded"
)

// version is set by `make build` from .ci/version. With `go install` it is the module's version.
var version = "development"

func init() {
	info, _ := debug.ReadBuildInfo()
	if m, _, ok := embedded.Installed(info); ok {
		version = m.Version
	}
}

// versionReport is the output of `sov version --json`.
type versionReport struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func newVersion() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of sov",
		Example: "  sov version\n  sov version --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			report := versionReport{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, setting := range info.Settings {
					if setting.Key == "vcs.revision" {
						report.Commit = setting.Value
					}
				}
			}
			return printResult(c.OutOrStdout(), asJSON, report, func(p *printer) {
				p.printf("sov %s (%s, %s/%s)\n", report.Version, report.Go, report.OS, report.Arch)
			})
		},
	}
	jsonFlag(c, &asJSON)
	return c
}
