package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/doctor"
	"github.com/sovereign-sql/sov/internal/host/preflight"
)

var doctorGroups = []string{"tools", "cache", "sources", "phone"}

// usualGroups are looked at when nothing else is asked for: a phone is not needed to build.
var usualGroups = doctorGroups[:3]

func newDoctor() *cobra.Command {
	var arch string
	var only []string
	var asJSON bool
	var phones phoneFlags
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check that this computer has what building and running need",
		Long: `Check that this computer has what building and running need: tools (a Go toolchain, a compiler for the kernel, QEMU),
the cache folder and its space, and that the public sources answer. With --only phone, or a --device, that the phone can run
a machine: root, Android's version, processor, crosvm, hypervisor, TAP interfaces, free space.

Exit status: 0 when all is there, 3 when something is missing.`,
		Example: `  sov doctor
  sov doctor --arch amd64 --only tools
  sov doctor --only phone
  sov doctor --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkArch(arch); err != nil {
				return err
			}
			for _, group := range only {
				if !slices.Contains(doctorGroups, group) {
					return usagef("--only %s: know %s", group, strings.Join(doctorGroups, ", "))
				}
			}
			if c.Flags().Changed("device") && !slices.Contains(only, "phone") {
				only = append(only, "phone")
			}
			findings := diagnose(c.Context(), arch, only)
			if slices.Contains(only, "phone") {
				found, err := checkPhones(c, arch, phones)
				if err != nil {
					return err
				}
				findings = append(findings, found...)
			}
			if err := printFindings(c.OutOrStdout(), findings, asJSON); err != nil {
				return err
			}
			missing := 0
			for _, f := range findings {
				if !f.OK {
					missing++
				}
			}
			if missing > 0 {
				return foundf("%d of %d checks found something", missing, len(findings))
			}
			return nil
		},
	}
	archFlag(c, &arch)
	c.Flags().StringSliceVar(&only, "only", usualGroups, "what to check: tools, cache, sources, phone")
	complete(c, "only", doctorGroups...)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	phones.addDevice(c)
	return c
}

// checkPhones looks at the phones that are meant.
func checkPhones(c *cobra.Command, arch string, f phoneFlags) ([]doctor.Finding, error) {
	phones, err := f.choose(c)
	if err != nil {
		return nil, err
	}
	var findings []doctor.Finding
	for _, p := range phones {
		found, err := preflight.Check(c.Context(), p, preflight.Need{Arch: arch})
		if err != nil {
			return nil, err
		}
		for _, one := range found {
			name := one.Check
			if len(phones) > 1 {
				name = p.Name() + " " + name
			}
			findings = append(findings, doctor.Finding{Check: name, Group: "phone", OK: one.OK, Found: one.Found, Advice: one.Advice})
		}
	}
	return findings, nil
}

func printFindings(w io.Writer, findings []doctor.Finding, asJSON bool) error {
	if asJSON {
		return printJSON(w, findings)
	}
	for _, f := range findings {
		verdict := "ok     "
		if !f.OK {
			verdict = "MISSING"
		}
		if _, err := fmt.Fprintf(w, "%s  %-18s %s\n", verdict, f.Check, f.Found); err != nil {
			return err
		}
		if f.Advice != "" {
			if _, err := fmt.Fprintf(w, "         %-18s → %s\n", "", f.Advice); err != nil {
				return err
			}
		}
	}
	return nil
}

func diagnose(ctx context.Context, arch string, groups []string) []doctor.Finding {
	var findings []doctor.Finding
	if slices.Contains(groups, "tools") {
		findings = append(findings, doctor.CheckGo(ctx), doctor.CheckKernelTools(ctx, arch), doctor.CheckQEMU(arch))
	}
	if slices.Contains(groups, "cache") {
		findings = append(findings, doctor.CheckCache(cacheDir))
	}
	if slices.Contains(groups, "sources") {
		findings = append(findings, doctor.CheckSources(ctx)...)
	}
	return findings
}
