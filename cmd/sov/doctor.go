package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/host/doctor"
	"github.com/sovereign-sql/sov/pipeline"
)

func newDoctor() *cobra.Command {
	var arch, report string
	var only []string
	var asJSON bool
	var phones phoneFlags
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check this computer, or a phone, for missing requirements",
		Long: `Check this computer for the requirements of building and running: tools (a Go toolchain, a compiler
for the kernel, QEMU), the cache folder and its free space, and whether the public sources answer.

With --only phone, or a --device, check whether the phone can run a machine: root, Android's
version, processor, crosvm, hypervisor, TAP interfaces, free space. With --report, write a
description of the phone to a file: read it, then attach it to an issue. Run the command again with
the same file to add the phone's network in another state.

Exit status: 0 if all checks pass, 3 if something is missing.`,
		Example: `  sov doctor
  sov doctor --arch amd64 --only tools
  sov doctor --only phone
  sov doctor --report phone.txt
  sov doctor --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkArch(arch); err != nil {
				return err
			}
			for _, group := range only {
				if !slices.Contains(doctor.Groups, group) {
					return usagef("--only %s: must be among %s", group, strings.Join(doctor.Groups, ", "))
				}
			}
			if (c.Flags().Changed("device") || report != "") && !slices.Contains(only, "phone") {
				only = append(only, "phone")
			}
			var findings []finding.Finding
			var packages []string
			err := working(c, "check", func(ctx context.Context, _ *pipeline.Task) error {
				findings, packages = doctor.Check(ctx, arch, only, cacheDir)
				return nil
			})
			if err != nil {
				return err
			}
			if slices.Contains(only, "phone") {
				chosen, err := phones.choose(c)
				if err != nil {
					return err
				}
				err = working(c, "look at the phone", func(ctx context.Context, _ *pipeline.Task) error {
					if report != "" {
						return doctor.Report(ctx, chosen, report)
					}
					found, err := doctor.Phones(ctx, chosen, arch)
					findings = append(findings, found...)
					return err
				})
				if err != nil {
					return err
				}
				if report != "" {
					_, err = fmt.Fprintf(c.OutOrStdout(), "%s describes %s: read it before you attach it to an issue\n", report, chosen[0].Name())
					return err
				}
			}
			err = printResult(c.OutOrStdout(), asJSON, findings, func(p *printer) {
				p.findings(findings)
				if len(packages) > 0 {
					p.printf("\nOn Debian, this installs what is missing:\n    %sapt-get install --no-install-recommends %s\n", asRoot(), strings.Join(packages, " "))
				}
			})
			failed := len(finding.Failures(findings))
			return orFound(err, failed > 0, "%d of %d checks failed", failed, len(findings))
		},
	}
	archFlag(c, &arch)
	c.Flags().StringSliceVar(&only, "only", doctor.UsualGroups, "what to check: tools, cache, sources, phone")
	complete(c, "only", doctor.Groups...)
	jsonFlag(c, &asJSON)
	c.Flags().StringVar(&report, "report", "", "write a description of the phone to this `file`, for an issue")
	phones.addDevice(c)
	return c
}

// asRoot returns the prefix of a command that requires root: "sudo ", or "" for root.
func asRoot() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return "sudo "
}
