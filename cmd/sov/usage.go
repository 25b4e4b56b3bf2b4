package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// flagError turns an error of pflag into a usage error with a suggestion.
func flagError(c *cobra.Command, err error) error {
	unknown, missing, invalid := new(pflag.NotExistError), new(pflag.ValueRequiredError), new(pflag.InvalidValueError)
	switch {
	case errors.As(err, &unknown):
		return unknownFlag(c, unknown)
	case errors.As(err, &missing):
		name, _ := pflag.UnquoteUsage(missing.GetFlag())
		return usagef("--%s: the value is missing: type --%[1]s %s (see `%s --help`)", missing.GetFlag().Name, strings.ToUpper(name), c.CommandPath())
	case errors.As(err, &invalid) && valueForms[invalid.GetFlag().Value.Type()] != "":
		f := invalid.GetFlag()
		return usagef("--%s %s: must be %s (see `%s --help`)", f.Name, invalid.GetValue(), valueForms[f.Value.Type()], c.CommandPath())
	}
	return usagef("%w (see `%s --help`)", err, c.CommandPath())
}

// valueForms describe the valid values of a flag by its type.
var valueForms = map[string]string{
	"bool":     "true or false",
	"int":      "a whole number",
	"uint16":   "a port, 0 to 65535",
	"duration": "a time such as 90s or 5m",
}

func unknownFlag(c *cobra.Command, e *pflag.NotExistError) error {
	word := "--" + e.GetSpecifiedName()
	var near string
	if short := e.GetSpecifiedShortnames(); short != "" {
		word = "-" + e.GetSpecifiedName()
		if _, passed, _ := strings.Cut(c.Use, " [-- "); passed != "" {
			return usagef("unknown flag: %s: arguments for the program follow --: type `%s -- %s` (see `%s --help`)",
				word, strings.TrimSuffix(c.CommandPath()+" "+strings.Fields(c.Use)[1], " "), word, c.CommandPath())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if near == "" && !f.Hidden && strings.HasPrefix(f.Name, e.GetSpecifiedName()) {
				near = f.Name
			}
		})
	} else {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		near = strictyaml.Nearest(e.GetSpecifiedName(), names)
	}
	if near != "" {
		return usagef("unknown flag: %s: did you mean --%s? (see `%s --help`)", word, near, c.CommandPath())
	}
	return usagef("unknown flag: %s (see `%s --help`)", word, c.CommandPath())
}

// argumentsError returns a usage error that names the missing or extra argument of a command.
func argumentsError(c *cobra.Command, args []string, err error) error {
	if c.HasSubCommands() {
		return unknownCommand(c, args[0])
	}
	if errors.As(err, new(*usageError)) {
		return err
	}
	var required []string
	all := 0
	for _, word := range strings.Fields(c.Use)[1:] {
		if strings.HasPrefix(word, "-") || strings.HasPrefix(word, "[-") {
			break
		}
		all++
		if !strings.HasPrefix(word, "[") {
			required = append(required, word)
		}
	}
	switch {
	case len(args) < len(required):
		missing, verb := required[len(args):], "is"
		if len(missing) > 1 {
			verb = "are"
		}
		return usagef("%s %s missing: type `%s %s` (see `%s --help`)", strings.Join(missing, " and "), verb, c.CommandPath(),
			strings.Join(slices.Concat(args, missing), " "), c.CommandPath())
	case all < len(args):
		// The message does not repeat the argument: it may be a password.
		return usagef("too many arguments: type `%s` (see `%s --help`)", strings.Join(append([]string{c.CommandPath()}, strings.Fields(c.Use)[1:]...), " "), c.CommandPath())
	}
	return usagef("%w (see `%s --help`)", err, c.CommandPath())
}

// newHelp replaces cobra's help command, which accepts a misspelt command without an error.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND...]",
		Short:   "Show the help of a command",
		Long:    "Show the help of a command, as `sov COMMAND --help` does.",
		Example: "  sov help build\n  sov help cache prune",
		Args:    cobra.ArbitraryArgs,
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if of, rest, err := c.Root().Find(args); err == nil && len(rest) == 0 {
				for _, sub := range of.Commands() {
					if sub.IsAvailableCommand() {
						names = append(names, sub.Name()+"\t"+sub.Short)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			of := c.Root()
			for _, word := range args {
				i := slices.IndexFunc(of.Commands(), func(sub *cobra.Command) bool { return sub.Name() == word })
				switch {
				case i >= 0:
					of = of.Commands()[i]
				case of.HasSubCommands():
					return unknownCommand(of, word)
				default:
					return usagef("too many arguments: type `sov help%s`", strings.TrimPrefix(of.CommandPath(), "sov"))
				}
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

// unknownCommand returns a usage error with the most similar command.
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
	} else if c.HasParent() {
		meant = ": must be one of " + strings.Join(names, ", ")
	}
	return usagef("unknown command %q%s (see `%s --help`)", word, meant, c.CommandPath())
}
