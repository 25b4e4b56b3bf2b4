package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/settings"
)

// phoneFlags select a command's phones.
type phoneFlags struct {
	devices []string
	all     bool
	asJSON  bool
	chosen  []device.Phone // selected by an earlier step of the command; nil: not selected yet
}

func (f *phoneFlags) add(c *cobra.Command) {
	f.addDevice(c)
	c.Flags().BoolVar(&f.all, "all", false, "all phones that adb lists")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON: an object, or with --all or several --device an array of one for each phone")
}

// addDevice adds only --device.
func (f *phoneFlags) addDevice(c *cobra.Command) {
	c.Flags().StringArrayVarP(&f.devices, "device", "s", nil, "phone: an adb serial, ssh:user@host or local:FOLDER; may be repeated")
	err := c.RegisterFlagCompletionFunc("device", func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		devices, err := device.Devices(c.Context(), "adb")
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, d := range devices {
			names = append(names, d.Serial+"\t"+d.Model)
		}
		return append(names, "ssh:\ta host, by ssh", "local:\ta folder of this computer"), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
	if err != nil {
		panic(err) // the flag does not exist: a mistake in this program
	}
}

// several reports whether the flags can select several phones. Output must then name the phone.
func (f *phoneFlags) several() bool { return f.all || len(f.devices) > 1 }

// named returns the phones of --device or, without it, those of the setting.
func (f *phoneFlags) named() ([]string, error) {
	if len(f.devices) > 0 || f.all {
		return f.devices, nil
	}
	s, err := settings.Load(os.Getenv)
	if err != nil {
		return nil, err
	}
	return s.Get(settings.Device).Values, nil
}

// again returns the flags that select the same phones in another command.
func (f *phoneFlags) again() []string {
	if f.all {
		return []string{"--all"}
	}
	var flags []string
	for _, name := range f.devices {
		flags = append(flags, "--device", name)
	}
	return flags
}

// choose returns the selected phones. If several are attached and no flag selects one, it asks the
// user.
func (f *phoneFlags) choose(c *cobra.Command) ([]device.Phone, error) {
	if f.chosen != nil {
		return f.chosen, nil
	}
	devices, err := f.named()
	if err != nil {
		return nil, err
	}
	choice := device.Choice{Devices: devices, All: f.all}
	if in, ok := c.InOrStdin().(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		choice.Ask = func(devices []device.Device) (device.Device, error) { return askDevice(c, in, devices) }
	}
	return device.Choose(c.Context(), choice)
}

// reachable returns the phones of --device or, without it, all attached phones that can be used,
// possibly none.
func (f *phoneFlags) reachable(c *cobra.Command) ([]device.Phone, error) {
	devices, err := f.named()
	if err != nil {
		return nil, err
	}
	choice := device.Choice{Devices: devices}
	if len(devices) == 0 {
		attached, err := device.Devices(c.Context(), "adb")
		if err != nil && !errors.Is(err, exec.ErrNotFound) {
			return nil, err
		}
		for _, d := range attached {
			if d.Usable() {
				choice.Devices = append(choice.Devices, "adb:"+d.Serial)
			}
		}
		if len(choice.Devices) == 0 {
			return nil, nil
		}
	}
	return device.Choose(c.Context(), choice)
}

// askDevice asks the user at the terminal to select a phone by number.
func askDevice(c *cobra.Command, in io.Reader, devices []device.Device) (device.Device, error) {
	say := c.ErrOrStderr()
	fmt.Fprintln(say, "Several phones are attached:")
	for i, d := range devices {
		fmt.Fprintf(say, "  %d  %s\n", i+1, d)
	}
	lines := bufio.NewReader(in)
	for {
		fmt.Fprintf(say, "Which one? [1-%d] ", len(devices))
		line, err := unlessDone(c.Context(), func() ([]byte, error) { return lines.ReadBytes('\n') })
		if n, bad := strconv.Atoi(strings.TrimSpace(string(line))); bad == nil && n >= 1 && n <= len(devices) {
			return devices[n-1], nil
		}
		if err != nil {
			fmt.Fprintln(say)
			return device.Device{}, usagef("no phone was chosen: name it with --device")
		}
	}
}

// each calls do for every selected phone, concurrently. With several phones, each line has the
// phone's name as prefix, a failure does not stop the other phones, and JSON output is an array.
func (f *phoneFlags) each(c *cobra.Command, do func(ctx context.Context, s *fleet.Site) error) error {
	phones, err := f.choose(c)
	if err != nil {
		return err
	}
	if !f.several() {
		return fleet.OnOne(c.Context(), phones[0], c.OutOrStdout(), c.ErrOrStderr(), f.asJSON, do)
	}
	answers := fleet.OnAll(c.Context(), phones, c.OutOrStdout(), c.ErrOrStderr(), f.asJSON, do)
	if f.asJSON {
		if err := printJSON(c.OutOrStdout(), answers); err != nil {
			return err
		}
	}
	return fleet.Sum(answers)
}
