package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/folders"
	"github.com/sovereign-sql/sov/internal/host/localvm"
)

// localFlags choose a machine that `sov run` runs on this computer in place of one on a phone.
type localFlags struct {
	local bool
	state string
}

func (f *localFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.local, "local", false, "the machine that `sov run` runs on this computer")
	c.Flags().StringVar(&f.state, "state", "", "its state folder, if it was given one; implies --local")
	c.MarkFlagsMutuallyExclusive("local", "device")
	c.MarkFlagsMutuallyExclusive("state", "device")
}

// running returns the machine of a name that runs here; nil where none does.
func (f *localFlags) running(name string) (*localvm.Running, error) {
	if f.state != "" {
		return localvm.At(f.state)
	}
	base, err := folders.State(os.Getenv)
	if err != nil {
		return nil, err
	}
	return localvm.Find(base, name)
}

// meant reports whether the flags choose a machine here.
func (f *localFlags) meant() bool { return f.local || f.state != "" }

// must returns the machine of a name that runs here.
func (f *localFlags) must(name string) (*localvm.Running, error) {
	r, err := f.running(name)
	if err == nil && r == nil {
		err = fmt.Errorf("%s does not run on this computer: sov run %[1]s", name)
	}
	return r, err
}

// orLocal gives a verb for phones the flag --local, with which do is called.
func orLocal(c *cobra.Command, do func(c *cobra.Command, r *localvm.Running) error) *cobra.Command {
	var f localFlags
	f.add(c)
	onPhone := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if !f.meant() {
			return onPhone(c, args)
		}
		name, _, err := built.Machine(args[0])
		if err != nil {
			return err
		}
		r, err := f.must(name)
		if err != nil {
			return err
		}
		return do(c, r)
	}
	return c
}
