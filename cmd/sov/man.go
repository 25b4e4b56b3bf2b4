package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// newMan returns the hidden command that writes a release's manual pages.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write sov's manual pages",
		Long: `Write a manual page for sov and for each of its commands to a folder, from the same texts as --help.
A release's archive has them in man/man1.`,
		Example: "  sov man ~/.local/share/man/man1\n  man sov-build",
		Args:    cobra.ExactArgs(1),
		Hidden:  true,
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			return writePages(c.Root(), args[0])
		},
	}
}

// writePages writes the pages of a command and of its subcommands.
func writePages(c *cobra.Command, dir string) error {
	if err := os.WriteFile(filepath.Join(dir, pageName(c)+".1"), []byte(page(c)), 0o644); err != nil {
		return fmt.Errorf("write manual page: %w", err)
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			if err := writePages(sub, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// pageName returns a page's name for man(1), such as "sov-cache-ls".
func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// page returns a command's manual page, in the macros of man(7). It has no date, so that it is
// reproducible.
func page(c *cobra.Command) string {
	var b strings.Builder
	section := func(title string) { fmt.Fprintf(&b, ".SH %s\n", title) }
	literal := func(text string) { fmt.Fprintf(&b, ".nf\n%s\n.fi\n", roff(text)) }
	reference := func(to *cobra.Command) string { return fmt.Sprintf(".BR %s (1)\n", roff(pageName(to))) }

	fmt.Fprintf(&b, ".TH %s 1 \"\" \"sov %s\" \"sov\"\n", roff(strings.ToUpper(pageName(c))), roff(c.Root().Version))
	section("NAME")
	fmt.Fprintf(&b, "%s \\- %s\n", roff(pageName(c)), roff(c.Short))
	section("SYNOPSIS")
	fmt.Fprintf(&b, "%s\n", roff(c.UseLine()))
	section("DESCRIPTION")
	for i, paragraph := range strings.Split(strings.TrimSpace(c.Long), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if strings.Contains("\n"+paragraph, "\n ") { // a table or a command
			literal(paragraph)
		} else {
			fmt.Fprintf(&b, "%s\n", roff(paragraph))
		}
	}
	if c.HasAvailableSubCommands() {
		section("COMMANDS")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n%s%s\n", reference(sub), roff(sub.Short))
			}
		}
	}
	if c.HasAvailableFlags() {
		section("OPTIONS")
		literal(strings.TrimRight(c.Flags().FlagUsagesWrapped(78), "\n"))
	}
	if c.Example != "" {
		section("EXAMPLES")
		literal(c.Example)
	}
	section(`"EXIT STATUS"`)
	b.WriteString("0 done, 1 failed, 2 wrong usage, 3 a check found something\n")
	if c.HasParent() {
		section(`"SEE ALSO"`)
		b.WriteString(reference(c.Parent()))
	}
	return b.String()
}

// roff escapes text that roff would interpret as requests or escapes.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
