package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// streamIdle is how long a backup or restore may stand still: both sides say every few seconds that they are at work.
const streamIdle = 90 * time.Second

// backupReport is what `sov backup --json` prints.
type backupReport struct {
	File      string   `json:"file"`
	Size      int64    `json:"size"` // bytes
	Databases []string `json:"databases"`
}

func newBackup() *cobra.Command {
	var f phoneFlags
	c := &cobra.Command{
		Use:   "backup RECIPE FILE",
		Short: "Save the databases of a machine on the phone to a file",
		Long: `Save all roles and databases of a machine that runs to a file on this computer, each database as it was at one moment.
PostgreSQL goes on working. The file is a ZIP archive that PostgreSQL's own programs can use after unzip: roles.sql for
psql, a file for each database for pg_restore, backup.json with their digests. It appears under its name, or replaces an
older one, when all has come and was checked. It holds the roles' password verifiers, so only its owner may read it.`,
		Example: `  sov backup sql sql.zip
  sov backup sql "backups/$(date +%F).zip"`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			name, err := machine(args)
			if err != nil {
				return err
			}
			if f.several() {
				return &usageError{errors.New("a file takes the backup of one phone: name one with --device")}
			}
			return f.each(c, func(ctx context.Context, s *site) error { return saveBackup(ctx, s, name, args[1]) })
		},
	}
	f.add(c)
	return c
}

func saveBackup(ctx context.Context, s *site, name, path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return &usageError{fmt.Errorf("%s is no file", path)}
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("the backup's folder: %w", err)
	}
	fmt.Fprintf(s.errOut, "backup: saving the databases of %s on %s\n", name, s.Name())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, in := io.Pipe()
	ended := make(chan struct{})
	go func() {
		err := s.runner(ctx, device.Command{Stdout: in, Limit: device.NoLimit, Idle: streamIdle}, "backup", name)
		in.CloseWithError(err) // where it went well the end of the file: the stream has one of its own
		close(ended)
	}()
	counted := &counter{r: stream, say: transferred(s.errOut, "backup")}
	made, err := backup.Create(path, backup.Backup{Machine: name, Time: time.Now().UTC().Truncate(time.Second)}, backup.NewReader(counted))
	stream.CloseWithError(errors.New("the backup could not be written"))
	cancel()
	<-ended
	if err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	return reportBackup(s, made, path)
}

func reportBackup(s *site, made *backup.Backup, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	r := backupReport{File: path, Size: info.Size(), Databases: []string{}}
	for _, file := range made.Files {
		if file.Kind == backup.KindDatabase {
			r.Databases = append(r.Databases, file.Database.Name)
		}
	}
	if s.asJSON {
		return printJSON(s.out, r)
	}
	_, err = fmt.Fprintf(s.out, "%s: %s, databases %s\n", path, progress.FormatSize(r.Size), strings.Join(r.Databases, ", "))
	return err
}

// transferred returns what says how much has passed: once a few seconds.
func transferred(w io.Writer, what string) func(int64) {
	const often = 5 * time.Second
	start, last := time.Now(), time.Now()
	return func(n int64) {
		if time.Since(last) >= often {
			last = time.Now()
			fmt.Fprintf(w, "%s: %s in %.0f s\n", what, progress.FormatSize(n), time.Since(start).Seconds())
		}
	}
}

// A counter counts what is read.
type counter struct {
	r   io.Reader
	n   atomic.Int64
	say func(int64)
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.say(c.n.Add(int64(n)))
	return n, err
}
