package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/build"
	"github.com/sovereign-sql/sov/internal/host/group"
)

func newRecipe() *cobra.Command {
	c := &cobra.Command{
		Use:   "recipe",
		Short: "Print, check and create recipes: show, check, schema, new",
		Long:  "Print, check and create recipes. docs/recipe.md describes their keys.",
		Example: `  sov recipe new shop
  sov recipe check ./shop.yaml
  sov recipe show ./shop.yaml --profile dev`,
	}
	c.AddCommand(newRecipeShow(), newRecipeNew(), newRecipeCheck(), newRecipeSchema())
	return c
}

// variantFlags adds the flags that select a variant of a recipe.
func variantFlags(c *cobra.Command, f *recipeFlags) {
	flags := c.Flags()
	flags.StringArrayVar(&f.profiles, "profile", nil, "apply profiles.NAME of the recipe; may be repeated")
	flags.StringArrayVar(&f.set, "set", nil, "set a key of the recipe: KEY=VALUE, such as vm.memory=2GiB, or KEY+=VALUE to append to a list; may be repeated")
	if err := c.RegisterFlagCompletionFunc("profile", completeProfiles); err != nil {
		panic(err) // the flag does not exist: a mistake in this program
	}
}

// completeProfiles completes the profiles of the named recipe.
func completeProfiles(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	r, _, err := build.LoadRecipe(args[0], "", nil, recipe.Variant{Arch: arch.ARM64})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return r.Profiles.Names(), cobra.ShellCompDirectiveNoFileComp
}

func newRecipeShow() *cobra.Command {
	var f recipeFlags
	c := &cobra.Command{
		Use:   "show RECIPE",
		Short: "Print a complete recipe, with what it extends",
		Long: `Check a recipe and print it complete, as sov build uses it for an architecture: with the recipes
that it extends, its profiles and --set. A recipe without any of these is printed unchanged, with
its comments. The machine's provenance contains the digest of this output.`,
		Example: `  sov recipe show sql
  sov recipe show ./mine.yaml --arch amd64 --profile dev
  sov recipe show ./mine.yaml --set vm.memory=2GiB --json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkArch(f.Arch); err != nil {
				return err
			}
			_, text, err := build.LoadRecipe(args[0], "", nil, f.variant())
			if err == nil && f.asJSON {
				var value json.RawMessage
				if value, err = recipe.JSON(text); err == nil {
					return printJSON(c.OutOrStdout(), value)
				}
			}
			if err == nil {
				_, err = c.OutOrStdout().Write(text)
			}
			return err
		},
	}
	archFlag(c, &f.Arch)
	variantFlags(c, &f)
	jsonFlag(c, &f.asJSON)
	return c
}

func newRecipeNew() *cobra.Command {
	var t build.Template
	c := &cobra.Command{
		Use:   "new NAME",
		Short: "Copy a built-in recipe to a new file",
		Long: `Write NAME.yaml, a copy of a built-in recipe with its comments and the new name. An existing file is
not replaced. Unlike sov init, this asks no questions and resolves no versions.`,
		Example: `  sov recipe new shop
  sov recipe new shop --from sql`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if names := build.BuiltIn(); !slices.Contains(names, t.From) {
				return usagef("--from %s: must be a built-in recipe: %s", t.From, strings.Join(names, ", "))
			}
			t.Name, t.Tailscale = args[0], true
			path, err := writeRecipe(t)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "wrote %s\n", path)
			next(c, false, "sov", "recipe", "check", path)
			return nil
		},
	}
	c.Flags().StringVar(&t.From, "from", "sql", "built-in recipe to copy")
	complete(c, "from", build.BuiltIn()...)
	return c
}

func newRecipeCheck() *cobra.Command {
	var f recipeFlags
	c := &cobra.Command{
		Use:   "check RECIPE",
		Short: "Check a recipe without building it",
		Long: `Check a recipe without building it and without a network: its keys, their values and combinations,
and whether the files that it names exist. The check covers each architecture and each profile,
unless a flag selects one. Errors name file, line and column. For a group file, sov checks the
recipes of all machines and the secrets that they share.`,
		Example: `  sov recipe check ./mine.yaml
  sov recipe check ./home.yaml
  sov recipe check ./mine.yaml --arch arm64 --profile dev --set vm.memory=2GiB`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			if f.Arch != "" {
				if err := checkArch(f.Arch); err != nil {
					return err
				}
			}
			g, err := group.Load(args[0])
			if err != nil {
				return err
			}
			if g != nil {
				return checkGroup(c, g, f.variant())
			}
			r, err := build.CheckRecipe(args[0], f.variant())
			if err != nil {
				return err
			}
			with := ""
			if names := r.Profiles.Names(); len(names) > 0 && len(f.profiles) == 0 {
				with = ", with each of its profiles " + strings.Join(names, ", ")
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is a valid recipe for the machine %s%s\n", args[0], r.Name, with)
			return err
		},
	}
	c.Flags().StringVar(&f.Arch, "arch", "", "check for this architecture only: "+arch.Allowed())
	complete(c, "arch", arch.Names()...)
	variantFlags(c, &f)
	return c
}

// checkGroup checks the recipes of a group's machines in the variants that the group selects.
func checkGroup(c *cobra.Command, g *group.Group, v recipe.Variant) error {
	var faults []error
	for _, m := range g.Machines {
		_, err := build.CheckRecipe(m.Recipe, recipe.Variant{Arch: v.Arch, Profiles: slices.Concat(m.Profiles, v.Profiles), Set: slices.Concat(m.Set, v.Set)})
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s is a valid group of the machines %s\n", g.File, strings.Join(g.Names(), ", "))
	return err
}

func newRecipeSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of recipes, for editors",
		Long: `Print the JSON Schema (draft 2020-12) of recipes. An editor with a YAML language server uses it to
complete and check keys; the first line of the recipe names the schema file.`,
		Example: `  sov recipe schema > recipe.schema.json
  sed -i '1i # yaml-language-server: $schema=recipe.schema.json' mine.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(recipe.Schema())
			return err
		},
	}
}

// variant returns the variant that the flags select.
func (f *recipeFlags) variant() recipe.Variant {
	return recipe.Variant{Arch: f.Arch, Profiles: f.profiles, Set: f.set}
}

// writeRecipe writes a new recipe to this folder unless the file exists, and returns its path.
func writeRecipe(t build.Template) (path string, err error) {
	text, err := t.Recipe()
	if err != nil {
		return "", usagef("%w", err)
	}
	path = "./" + t.Name + ".yaml"
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("%s exists: edit it, or choose another name", path)
	}
	if err == nil {
		_, err = file.Write(text)
		err = errors.Join(err, file.Close())
	}
	return path, err
}
