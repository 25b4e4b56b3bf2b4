package main

import (
	"os"
	"slices"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/folders"
	"github.com/sovereign-sql/sov/internal/host/settings"
	"github.com/spf13/cobra"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sov",
		Short: "Build and run a PostgreSQL virtual machine for a rooted Android phone",
		Long: `sov turns an Alpine image, Alpine packages, PostgreSQL, Tailscale and a kernel into one virtual
machine for a rooted Android phone. The result is the same, byte for byte, on every computer. sov
boots the machine on this computer to try it, and installs and updates it on the phone.`,
		Example: `  sov up sql                                 build, install on the phone, start and test
  sov build sql                              build the PostgreSQL machine into out/sql/arm64
  sov run sql --query 'select version()'     boot it here in QEMU and run a query
  sov secrets set sql postgres               set the superuser's password
  sov push sql --start                       install it on the phone that is plugged in, and start it
  sov test sql                               run the acceptance test`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(flagError)
	root.Version = version
	root.SetVersionTemplate("sov {{.Version}}\n")
	for _, g := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Build", []*cobra.Command{newInit(), newRecipe(), newBuild(), newLock(), newBundle(), newCache(), newList()}},
		{"On this computer", []*cobra.Command{newRun(), newSecrets(), newInspect(), newVerify(), newDiff()}},
		{"On the phone", []*cobra.Command{newUp(), newPush(), newStart(), newStop(), newRestart(), newRekey(), newStatus(), newLogs(), newTest(), newDiagnose(), newRepair(),
			newRollback(), newForward(), newPsql(), newShell(), newExec(), newBackup(), newRestore(), newUpgrade(), newRemove(), newPhone()}},
		{"Share", []*cobra.Command{newKey(), newSign(), newPublish(), newPull()}},
		{"About sov", []*cobra.Command{newDoctor(), newConfig(), newVersion(), newMan()}},
	} {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title + ":"})
		for _, c := range g.commands {
			c.GroupID = g.title
			root.AddCommand(c)
		}
	}
	root.SetHelpCommand(newHelp())
	root.SetHelpCommandGroupID("About sov")
	root.InitDefaultHelpCmd()
	root.SetCompletionCommandGroupID("About sov")
	refuseStrayArguments(root)
	return root
}

// addCompletion adds cobra's completion command, which writes to the output that root has now.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			refuseStrayArguments(c)
		}
	}
}

// refuseStrayArguments turns every error about a command's arguments into a usage error that names
// its help. A command with subcommands prints its help when it is called without arguments; without
// a run function, cobra would also do so for a misspelt subcommand.
func refuseStrayArguments(c *cobra.Command) {
	check := c.Args
	if c.HasSubCommands() {
		check = cobra.NoArgs
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return argumentsError(c, args, err)
		}
		return nil
	}
	for _, sub := range c.Commands() {
		refuseStrayArguments(sub)
	}
}

// excludeEachOther returns a usage error if both flags of a pair are given.
func excludeEachOther(c *cobra.Command, pairs ...[2]string) error {
	for _, p := range pairs {
		if c.Flags().Changed(p[0]) && c.Flags().Changed(p[1]) {
			return usagef("--%s and --%s exclude each other (see `%s --help`)", p[0], p[1], c.CommandPath())
		}
	}
	return nil
}

// archFlag adds --arch with a phone's architecture as default.
func archFlag(c *cobra.Command, value *string) {
	c.Flags().StringVar(value, "arch", arch.ARM64, "the guest's architecture: "+arch.Allowed())
	complete(c, "arch", arch.Names()...)
}

func checkArch(value string) error {
	if arch.Valid(value) {
		return nil
	}
	return usagef("--arch %s: must be %s", value, arch.Allowed())
}

// complete sets the values that the shell completes for a flag.
func complete(c *cobra.Command, flag string, values ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag does not exist: a mistake in this program
	}
}

// recipeList completes the names of several recipes.
func recipeList(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names := slices.DeleteFunc([]string{"sql"}, func(name string) bool { return slices.Contains(args, name) })
	return names, cobra.ShellCompDirectiveDefault
}

// recipes completes the name of the embedded recipe and the files of the folder.
func recipes(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"sql"}, cobra.ShellCompDirectiveDefault
}

// machines completes the names of the local builds and of the machines on the attached phones.
func machines(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := []string{"sql"}
	for _, a := range built.List("out") {
		names = append(names, a.Name+"\t"+a.Dir)
	}
	var f phoneFlags
	if devices, err := c.Flags().GetStringArray("device"); err == nil {
		f.devices = devices
	}
	phones, _ := f.reachable(c) // without a phone only local names are completed
	for _, phone := range fleet.List(c.Context(), phones) {
		for _, m := range phone.Machines {
			names = append(names, m.Name+"\t"+phone.Device)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// cacheDir returns the folder of sov's cache if no flag sets one.
func cacheDir() (string, error) {
	s, err := settings.Load(os.Getenv)
	if err != nil {
		return "", err
	}
	if dir := s.Get(settings.Cache).One(); dir != "" {
		return dir, nil
	}
	return folders.Cache(os.Getenv)
}
