package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/image/kconfig"
)

// configParts are what `sov inspect config` can show, in the order in which a machine meets them.
var configParts = []string{"vm", "kernel", "guest", "services", "postgres"}

func newInspectConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "config DIR|IMAGE [PART]",
		Short: "Print the machine's settings: vm, kernel, guest, services, postgres",
		Long: `Print the settings that a machine was built with. PART is one of

  vm        vm.json: disks, memory, processors, network (of an out folder)
  kernel    the kernel's embedded configuration (of an out folder)
  guest     what sov-init was told
  services  the services that it supervises
  postgres  PostgreSQL's settings and access rules

Without PART all of them but the kernel's are printed.`,
		Example: `  sov inspect config out/sql/arm64
  sov inspect config out/sql/arm64 postgres
  sov inspect config out/sql/arm64 kernel | grep SYSVIPC`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return configParts, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 2 {
				if !slices.Contains(configParts, args[1]) {
					return &usageError{fmt.Errorf("part %q: know %s", args[1], strings.Join(configParts, ", "))}
				}
				return printPart(c.OutOrStdout(), args[0], args[1])
			}
			info, err := os.Stat(args[0])
			if err != nil {
				return notBuilt(err)
			}
			for _, part := range configParts {
				if part == "kernel" || part == "vm" && !info.IsDir() {
					continue
				}
				if _, err := fmt.Fprintf(c.OutOrStdout(), "== %s\n", part); err != nil {
					return err
				}
				if err := printPart(c.OutOrStdout(), args[0], part); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func printPart(w io.Writer, from, part string) error {
	switch part {
	case "vm":
		text, err := os.ReadFile(filepath.Join(from, "vm.json"))
		if err != nil {
			return notBuilt(err)
		}
		_, err = w.Write(text)
		return err
	case "kernel":
		return printKernelConfig(w, from)
	}
	img, err := openImage(from)
	if err != nil {
		return err
	}
	defer img.Close()
	switch part {
	case "guest":
		return printFile(w, img.FS, guestspec.ConfigPath)
	case "services":
		return printFolder(w, img.FS, guestspec.ServicesDir)
	default:
		return printFolder(w, img.FS, "/etc/sov/postgres")
	}
}

func printKernelConfig(w io.Writer, dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "vm.json"))
	if err != nil {
		return notBuilt(err)
	}
	spec, err := vmspec.Decode(text)
	if err != nil {
		return err
	}
	image, err := kconfig.OpenFile(filepath.Join(dir, spec.Kernel))
	if err != nil {
		return err
	}
	config, err := image.Config()
	if err != nil {
		return err
	}
	_, err = w.Write(config)
	return err
}

// printFolder prints every file of a folder of the image under a line with its name. There may be no such folder.
func printFolder(w io.Writer, filesystem fs.FS, dir string) error {
	entries, err := fs.ReadDir(filesystem, strings.TrimPrefix(dir, "/"))
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if _, err := fmt.Fprintf(w, "-- %s\n", name); err != nil {
			return err
		}
		if err := printFile(w, filesystem, name); err != nil {
			return err
		}
	}
	return nil
}

func printFile(w io.Writer, filesystem fs.FS, name string) error {
	text, err := fs.ReadFile(filesystem, strings.TrimPrefix(name, "/"))
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}
