package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/folders"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/host/terminal"
)

// localFlags select a machine that `sov run` runs on this computer instead of one on a phone.
type localFlags struct {
	local bool
	state string
}

func (f *localFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.local, "local", false, "the machine that sov run runs on this computer")
	c.Flags().StringVar(&f.state, "state", "", "the state folder of that machine, if sov run had --state; implies --local")
}

// check returns an error if the flags select both a local machine and one on a phone.
func (f *localFlags) check(c *cobra.Command) error {
	return excludeEachOther(c, [2]string{"local", "device"}, [2]string{"local", "all"}, [2]string{"state", "device"}, [2]string{"state", "all"},
		[2]string{"local", "watch"}, [2]string{"state", "watch"})
}

// running returns the named machine if it runs on this computer, otherwise nil.
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

// meant reports whether the flags select a machine on this computer.
func (f *localFlags) meant() bool { return f.local || f.state != "" }

// must returns the named machine on this computer, or an error if it does not run.
func (f *localFlags) must(name string) (*localvm.Running, error) {
	r, err := f.running(name)
	if err == nil && r == nil {
		err = fmt.Errorf("%s does not run on this computer: `sov run %[1]s` starts it", name)
	}
	return r, err
}

// orLocal adds --local to a command for phones. With it, the command calls do.
func orLocal(c *cobra.Command, do func(c *cobra.Command, r *localvm.Running) error) *cobra.Command {
	var f localFlags
	f.add(c)
	onPhone := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if !f.meant() {
			return onPhone(c, args)
		}
		if err := f.check(c); err != nil {
			return err
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

// A localMachine is a machine that runs on this computer, as `sov list` shows it.
type localMachine struct {
	Name    string `json:"name"`
	Arch    string `json:"arch"`
	Version string `json:"version"` // empty if the guest does not answer
	State   string `json:"state"`   // "ready", "starting" or "silent"
	PID     int    `json:"pid"`     // process ID of its sov
	URL     string `json:"url,omitempty"`
	Folder  string `json:"folder"` // its state folder
	Size    int64  `json:"size"`   // bytes of disk space used by its data disk
}

// answerLimit is the timeout of a request to a guest, which may still be starting.
const answerLimit = 2 * time.Second

// runningHere returns the machines that run on this computer.
func runningHere(ctx context.Context) ([]localMachine, error) {
	base, err := folders.State(os.Getenv)
	if err != nil {
		return nil, err
	}
	list, err := localvm.List(base)
	if err != nil {
		return nil, err
	}
	machines := []localMachine{}
	for _, r := range list {
		m := localMachine{Name: r.Name, Arch: r.Arch, State: "silent", PID: r.PID, URL: r.URL, Folder: r.State, Size: r.DataSize()}
		asked, cancel := context.WithTimeout(ctx, answerLimit)
		if status, err := r.Guest().Status(asked); err == nil {
			m.Version, m.State = status.Version, "starting"
			if status.Ready {
				m.State = "ready"
			}
		}
		cancel()
		machines = append(machines, m)
	}
	return machines, nil
}

// statusHere prints the status of a machine that runs on this computer.
func statusHere(c *cobra.Command, r *localvm.Running) error {
	asJSON, err := c.Flags().GetBool("json")
	if err != nil {
		return err
	}
	status, err := r.Guest().Status(c.Context())
	if err != nil {
		return fmt.Errorf("%s runs on this computer and does not answer: %w: its console's log is %s", r.Name, err, r.Console())
	}
	report := runReport{URL: r.URL, PID: r.QEMU, Console: r.Console(), Network: r.Network, Status: status, Published: r.Published}
	return printResult(c.OutOrStdout(), asJSON, report, func(p *printer) {
		state := "starting"
		if status.Ready {
			state = "ready"
		}
		p.printf("%s %s on this computer: %s, up for %.0f s, process %d\n", r.Name, terminal.Harmless(status.Version), state, status.Uptime, r.PID)
		report.addresses(p)
		p.printf("network: %s\n", r.Network)
		for _, s := range status.Services {
			p.printf("service %s: %s\n", terminal.Harmless(s.Name), terminal.Harmless(strings.TrimSuffix(s.Summary()+": "+s.Reason, ": ")))
		}
		for _, problem := range append(status.Problems, status.Data.Fault, status.Data.Warning) {
			if problem != "" {
				p.printf("problem: %s\n", terminal.Harmless(problem))
			}
		}
	})
}
