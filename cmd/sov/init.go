package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sovereign-sql/sov/internal/host/build"
)

// initFlags are the flags of `sov init` and those of its lock.
type initFlags struct {
	build.Template
	lock   lockFlags
	noLock bool
}

func newInit() *cobra.Command {
	var f initFlags
	c := &cobra.Command{
		Use:   "init [NAME]",
		Short: "Write your own recipe and its lock",
		Long: `Write a new recipe, NAME.yaml, and its lock. The recipe is a copy of the built-in recipe sql,
changed by the flags. At a terminal, sov asks for values that are not set by a flag; otherwise it
keeps those of the built-in recipe. An existing file is not replaced.`,
		Example: `  sov init
  sov init shop --memory 2GiB --data 32GiB --package postgresql-pgvector
  sov init shop --tailscale=false --no-lock`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f.Name = strings.Join(args, "")
			if err := f.ask(c); err != nil {
				return err
			}
			if f.Name == "" {
				return usagef("NAME is missing: type `sov init NAME` (see `sov init --help`)")
			}
			path, err := writeRecipe(f.Template)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "wrote %s\n", path)
			if !f.noLock {
				if err := runLock(c, path, f.lock); err != nil {
					return err
				}
			}
			next(c, f.lock.asJSON, "sov", "up", path)
			return nil
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.Memory, "memory", "", "the machine's memory, such as 2GiB")
	flags.StringVar(&f.Data, "data", "", "size of the data disk, such as 32GiB; the file grows as the disk fills")
	flags.StringArrayVar(&f.Packages, "package", nil, "Alpine package to add; may be repeated")
	flags.BoolVar(&f.Tailscale, "tailscale", true, "join a tailnet when an auth key is set")
	flags.BoolVar(&f.noLock, "no-lock", false, "do not resolve versions now but in the first build")
	lockedFlags(c, &f.lock.recipeFlags)
	return c
}

// ask prompts at the terminal for values that no flag has set.
func (f *initFlags) ask(c *cobra.Command) error {
	in, ok := c.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil
	}
	lines := bufio.NewReader(in)
	question := func(flag, text, usual string) (string, error) {
		if flag != "" && c.Flags().Changed(flag) {
			return "", nil
		}
		fmt.Fprintf(c.ErrOrStderr(), "%s [%s]: ", text, usual)
		line, err := unlessDone(c.Context(), func() ([]byte, error) { return lines.ReadBytes('\n') })
		answer := strings.TrimSpace(string(line))
		if answer == "" && err == nil {
			answer = usual
		}
		return answer, err
	}
	if f.Name == "" {
		name, err := question("", "Name of the machine", "mine")
		if err != nil {
			return err
		}
		f.Name = name
	}
	memory, err := question("memory", "Memory", "1GiB")
	if err != nil {
		return err
	}
	data, err := question("data", "Size of the data disk", "8GiB")
	if err != nil {
		return err
	}
	tailscale, err := question("tailscale", "Join a tailnet with Tailscale, yes or no", "yes")
	if err != nil {
		return err
	}
	packages, err := question("package", "More Alpine packages, with spaces between", "none")
	if err != nil {
		return err
	}
	if memory != "" {
		f.Memory = memory
	}
	if data != "" {
		f.Data = data
	}
	if tailscale != "" {
		f.Tailscale = strings.HasPrefix(strings.ToLower(tailscale), "y")
	}
	if packages != "" && packages != "none" {
		f.Packages = strings.Fields(packages)
	}
	return nil
}
