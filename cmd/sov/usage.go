package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// flagError makes a usage error of what pflag says, with the flag that was probably meant.
func flagError(c *cobra.Command, err error) error {
	if word, unknown := strings.CutPrefix(err.Error(), "unknown flag: --"); unknown {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := strictyaml.Nearest(word, names); near != "" {
			return usagef("%w: did you mean --%s? (see `%s --help`)", err, near, c.CommandPath())
		}
	}
	return usagef("%w (see `%s --help`)", err, c.CommandPath())
}

// argumentsError says which argument of a command is missing or too many.
func argumentsError(c *cobra.Command, args []string, err error) error {
	if c.HasSubCommands() {
		return unknownCommand(c, args[0])
	}
	var required []string
	all := 0
	for _, word := range strings.Fields(c.Use)[1:] {
		if strings.HasPrefix(word, "-") {
			break
		}
		all++
		if !strings.HasPrefix(word, "[") {
			required = append(required, word)
		}
	}
	switch {
	case len(args) < len(required):
		return usagef("%s is missing: type `%s %s` (see `%s --help`)", strings.Join(required[len(args):], " and "), c.CommandPath(),
			strings.Join(append(append([]string{}, args...), required[len(args):]...), " "), c.CommandPath())
	case all < len(args):
		// Without the argument itself: somebody may have typed a password.
		return usagef("too many arguments: type `%s %s` (see `%s --help`)", c.CommandPath(), strings.Join(strings.Fields(c.Use)[1:], " "), c.CommandPath())
	}
	return usagef("%w (see `%s --help`)", err, c.CommandPath())
}

// unknownCommand says which command was probably meant.
func unknownCommand(c *cobra.Command, word string) error {
	var names []string
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	meant := ""
	if near := strictyaml.Nearest(word, names); near != "" {
		meant = fmt.Sprintf(": did you mean `%s %s`?", c.CommandPath(), near)
	}
	return usagef("unknown command %q%s (see `%s --help`)", word, meant, c.CommandPath())
}
