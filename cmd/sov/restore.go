package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
)

func newRestore() *cobra.Command {
	var f phoneFlags
	var databases []string
	var yes bool
	c := &cobra.Command{
		Use:   "restore RECIPE FILE",
		Short: "Make the databases of a machine on the phone what they are in a backup",
		Long: `Make the databases of a machine that runs what they were when ` + "`sov backup`" + ` saved them to a file. The file is checked first.
Each database is restored under another name, and only when all of them are whole do they take the places of those that
are there, in one transaction; whoever is connected to those is put out. Until then, and if anything fails, everything is
as it was. It takes room for both on the data disk.

Databases that are not in the file stay. Roles that are missing are made with the passwords they had; those that are there
keep theirs. Replacing databases is asked about at the terminal, or meant by --yes.`,
		Example: `  sov restore sql sql.zip
  sov restore sql sql.zip --database shop --yes`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			name, err := machine(args)
			if err != nil {
				return err
			}
			a, err := openBackup(args[1], databases)
			if err != nil {
				return err
			}
			defer a.Close()
			wanted := a.Databases()
			if len(databases) > 0 {
				wanted = databases
			}
			if !yes {
				loss := fmt.Sprintf("on the phone, %s become what they were at %s", shownList(wanted), a.Time.Local().Format(time.DateTime))
				if err := confirm(c, name, loss); err != nil {
					return err
				}
			}
			return f.each(c, func(ctx context.Context, s *fleet.Site) error { return sendBackup(ctx, s, name, a, wanted) })
		},
	}
	f.add(c)
	c.Flags().StringArrayVar(&databases, "database", nil, "restore only this one; may be repeated (default: all that the file holds)")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// openBackup opens a backup and checks all of it.
func openBackup(path string, databases []string) (*backup.Archive, error) {
	a, err := backup.Open(path)
	if err != nil {
		return nil, err
	}
	err = a.Verify()
	for _, d := range databases {
		if err == nil && !slices.Contains(a.Databases(), d) {
			err = usagef("--database %s: %s holds %s", d, path, shownList(a.Databases()))
		}
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func shownList(names []string) string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = shown(n)
	}
	return strings.Join(list, ", ")
}

func sendBackup(ctx context.Context, s *fleet.Site, name string, a *backup.Archive, wanted []string) error {
	out, in := io.Pipe()
	go func() {
		stream := backup.NewWriter(in)
		err := a.Send(stream, func(database string) bool { return slices.Contains(wanted, database) })
		if err != nil {
			stream.Fail(err.Error())
		}
		in.Close()
	}()
	defer out.CloseWithError(errors.New("nobody reads it any more"))
	events, answers := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		sent := &counter{r: out, say: transferred(s.ErrOut, "restore")}
		err := s.Runner(ctx, device.Command{Stdin: sent, Stdout: answers, Limit: device.NoLimit, Idle: streamIdle}, "restore", name, "--json")
		answers.Close()
		ended <- err
	}()
	did, fault := followRestore(events, s.ErrOut)
	events.CloseWithError(fault)
	err := <-ended
	if err == nil {
		err = fault
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", name, err)
	}
	if s.AsJSON {
		return printJSON(s.Out, did)
	}
	for _, w := range did.Warnings {
		fmt.Fprintln(s.ErrOut, "warning:", w)
	}
	_, err = fmt.Fprintf(s.Out, "restored: %s\n", shownList(did.Databases))
	return err
}

// followRestore reads what the guest says until it is done. What went wrong there is sov-runner's error.
func followRestore(r io.Reader, w io.Writer) (*backup.Restoration, error) {
	const maxLine = 4 << 20 // bytes
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var did *backup.Restoration
	for lines.Scan() {
		var e backup.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("sov-runner answered what is no JSON: %w", err)
		}
		if e.Progress != "" {
			fmt.Fprintln(w, "restore:", e.Progress)
		}
		if e.Done != nil {
			did = e.Done
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if did == nil {
		return nil, errors.New("it did not say that it is done")
	}
	return did, nil
}
