//go:build linux

package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/durable"
)

// properties are what a new cluster takes from an old one.
type properties struct {
	size                     int64 // of its files, in bytes
	checksums                bool
	segment                  int64 // of the write-ahead log, in bytes
	encoding, collate, ctype string
	provider, locale, rules  string // of template0; provider is pg_database.datlocprovider
}

// Ports of the servers that run during an upgrade: only names of sockets, since they listen on no
// address.
const (
	portOfUpgrade = 50432 // what pg_upgrade takes unless it is told otherwise
	portOfOurs    = 50433
)

// A program's environment: pg_upgrade and initdb parse what others print, and refuse a language of
// their own.
var programEnvironment = []string{"LC_ALL=C", "TZ=UTC"}

// programWords is how much of what a program printed last is in the error of its failure, in lines.
const programWords = 6

// program runs one of the server's programs to its end as the cluster's user.
func (w *upgrading) program(ctx context.Context, bin, name string, args ...string) error {
	_, err := w.output(ctx, bin, name, args...)
	return err
}

// output is program, and returns what it printed.
func (w *upgrading) output(ctx context.Context, bin, name string, args ...string) (string, error) {
	c := w.command(ctx, bin, name, args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	w.Output.Write(out.Bytes())
	if err == nil {
		return out.String(), nil
	}
	if context.Cause(ctx) != nil {
		return "", context.Cause(ctx)
	}
	var said []string
	for line := range strings.Lines(out.String()) {
		if line = strings.TrimSpace(line); line != "" {
			said = append(said, line)
		}
	}
	said = said[max(len(said)-programWords, 0):]
	return "", fmt.Errorf("%s of PostgreSQL %s: %w: %s", name, w.majorOf(bin), err, strings.Join(said, " / "))
}

func (w *upgrading) majorOf(bin string) string {
	if bin == w.Bin {
		return w.to
	}
	return w.from
}

func (w *upgrading) command(ctx context.Context, bin, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
	c.Dir = "/"
	if _, err := os.Stat(w.notes()); err == nil {
		c.Dir = w.notes() // where pg_upgrade writes its notes
	}
	c.Env = append(os.Environ(), programEnvironment...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: w.owner, Setpgid: true}
	// A program that is killed leaves those that it has started.
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	return c
}

// lookAtOld reads the properties of the old cluster. Its server runs for that, which also replays
// the log of one that was not shut down in order: pg_upgrade refuses such a cluster.
func (w *upgrading) lookAtOld(ctx context.Context) error {
	err := w.with(ctx, w.OldBin, w.Data, func(socket string) error {
		conn, err := connectTo(ctx, socket, "template1")
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		// Columns differ between versions, so they are taken from the row as JSON.
		rows, err := query(ctx, conn, `SELECT pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype,
			coalesce(pg_catalog.to_jsonb(d)->>'datlocprovider', 'c'),
			coalesce(pg_catalog.to_jsonb(d)->>'datlocale', pg_catalog.to_jsonb(d)->>'daticulocale', ''),
			coalesce(pg_catalog.to_jsonb(d)->>'daticurules', '')
			FROM pg_catalog.pg_database d WHERE datname = 'template0'`)
		if err != nil || len(rows) != 1 {
			return errors.Join(err, fmt.Errorf("it has %d databases template0", len(rows)))
		}
		r := rows[0]
		w.old.encoding, w.old.collate, w.old.ctype, w.old.provider, w.old.locale, w.old.rules = r[0], r[1], r[2], r[3], r[4], r[5]
		return nil
	})
	if err != nil {
		return fmt.Errorf("look at the cluster of PostgreSQL %s: %w", w.from, err)
	}
	control, err := w.output(ctx, w.OldBin, "pg_controldata", "-D", w.Data)
	if err != nil {
		return err
	}
	w.old.checksums = controlValue(control, "Data page checksum version") != "0"
	w.old.segment, err = strconv.ParseInt(controlValue(control, "Bytes per WAL segment"), 10, 64)
	if err != nil || w.old.segment < 1<<20 {
		return fmt.Errorf("pg_controldata does not say how long a segment of the log is: %w", err)
	}
	return nil
}

// controlValue finds a line "NAME:   VALUE" of pg_controldata.
func controlValue(text, name string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// initArgs make a cluster with the properties of the old one.
func (w *upgrading) initArgs() []string {
	args := []string{
		"--pgdata=" + clusterIn(w.Data), "--username=" + superuser, "--auth-local=peer", "--auth-host=scram-sha-256",
		"--encoding=" + w.old.encoding, "--locale=C", "--lc-collate=" + w.old.collate, "--lc-ctype=" + w.old.ctype,
		"--wal-segsize=" + strconv.FormatInt(w.old.segment>>20, 10),
	}
	switch {
	case w.old.checksums:
		args = append(args, "--data-checksums")
	case !olderThan(w.to, "18"): // which makes them unless it is told not to
		args = append(args, "--no-data-checksums")
	}
	switch w.old.provider {
	case "i":
		args = append(args, "--locale-provider=icu", "--icu-locale="+w.old.locale)
	case "b":
		args = append(args, "--locale-provider=builtin", "--builtin-locale="+w.old.locale)
	}
	if w.old.rules != "" {
		args = append(args, "--icu-rules="+w.old.rules)
	}
	return args
}

// takeSettings gives the new cluster what ALTER SYSTEM has set in the old one, and fails where its
// server does not know that.
func (w *upgrading) takeSettings(ctx context.Context) error {
	old, err := os.OpenRoot(w.Data)
	if err != nil {
		return err
	}
	defer old.Close()
	text, err := old.ReadFile(autoConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to := filepath.Join(clusterIn(w.Data), autoConf)
	if err := durable.WriteFile(to, text, 0o600); err != nil {
		return err
	}
	if err := os.Lchown(to, int(w.owner.Uid), int(w.owner.Gid)); err != nil {
		return err
	}
	args := append(w.serverArgs(clusterIn(w.Data)), "-C", "data_checksums")
	if _, err := w.output(ctx, w.Bin, "postgres", args...); err != nil {
		return fmt.Errorf("the settings, those of ALTER SYSTEM among them, do not fit PostgreSQL %s: ALTER SYSTEM RESET the one that is named: %w", w.to, err)
	}
	return nil
}

// serverArgs start a server in a directory that is not where the configuration says.
func (w *upgrading) serverArgs(data string) []string {
	return []string{"-D", data, "-c", "config_file=" + w.Config, "-c", "data_directory=" + data}
}

// pgUpgrade runs pg_upgrade, with further arguments. Both servers have the machine's configuration:
// those that initdb writes ask for more memory than a small machine has.
func (w *upgrading) pgUpgrade(ctx context.Context, more ...string) error {
	options := func(data string) string {
		return fmt.Sprintf("-c config_file=%s -c data_directory=%s", w.Config, data)
	}
	args := append([]string{
		"--old-bindir=" + w.OldBin, "--new-bindir=" + w.Bin, "--old-datadir=" + w.Data, "--new-datadir=" + clusterIn(w.Data),
		"--old-options=" + options(w.Data), "--new-options=" + options(clusterIn(w.Data)), "--username=" + superuser,
		"--socketdir=" + w.Sockets, fmt.Sprintf("--old-port=%d", portOfUpgrade), fmt.Sprintf("--new-port=%d", portOfUpgrade),
	}, more...)
	err := w.program(ctx, w.Bin, "pg_upgrade", args...)
	if err == nil {
		return nil
	}
	if notes := w.readNotes(); notes != "" {
		err = fmt.Errorf("%w: %s", err, notes)
	}
	return err
}

// noteFiles are those in which pg_upgrade lists what keeps it from upgrading: in its working
// directory, and from version 15 on in the new cluster (PostgreSQL's src/bin/pg_upgrade/check.c).
var noteFiles = regexp.MustCompile(`^(loadable_libraries|tables_|reg|incompatible_|contrib_|databases_|tsvector_|invalid_).*\.txt$`)

// maxNotes bounds what an error has of these files, in bytes.
const maxNotes = 2000

func (w *upgrading) readNotes() string {
	var found []string
	dirs, _ := filepath.Glob(filepath.Join(clusterIn(w.Data), "pg_upgrade_output.d", "*")) // the pattern is well formed
	for _, dir := range append(dirs, w.notes()) {
		entries, _ := os.ReadDir(dir) // without one there is nothing to tell
		for _, e := range entries {
			if !noteFiles.MatchString(e.Name()) {
				continue
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				continue
			}
			text, _ := root.ReadFile(e.Name())
			root.Close()
			found = append(found, strings.Join(strings.Fields(string(text)), " "))
		}
	}
	text := strings.Join(found, "; ")
	return text[:min(len(text), maxNotes)]
}

// proveNew starts the new cluster's server, updates its extensions and makes the statistics that
// pg_upgrade does not copy.
func (w *upgrading) proveNew(ctx context.Context) error {
	return w.with(ctx, w.Bin, clusterIn(w.Data), func(socket string) error {
		if err := w.updateExtensions(ctx, socket); err != nil {
			return err
		}
		return w.program(ctx, w.Bin, "vacuumdb", "--host="+w.Sockets, fmt.Sprintf("--port=%d", portOfOurs), "--username="+superuser, "--all", "--analyze-only")
	})
}

// updateExtensions makes each extension of the version that the new server brings.
func (w *upgrading) updateExtensions(ctx context.Context, socket string) error {
	conn, err := connectTo(ctx, socket, "template1")
	if err != nil {
		return err
	}
	rows, err := query(ctx, conn, "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn")
	conn.Close(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := w.updateExtensionsIn(ctx, socket, row[0]); err != nil {
			return fmt.Errorf("database %s: %w", row[0], err)
		}
	}
	return nil
}

func (w *upgrading) updateExtensionsIn(ctx context.Context, socket, database string) error {
	conn, err := connectTo(ctx, socket, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	rows, err := query(ctx, conn, `SELECT name, installed_version, default_version FROM pg_catalog.pg_available_extensions
		WHERE installed_version IS NOT NULL AND installed_version <> default_version`)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if _, err := conn.Exec(ctx, "ALTER EXTENSION "+quoteIdentifier(row[0])+" UPDATE").ReadAll(); err != nil {
			return fmt.Errorf("update extension %s from %s to %s: %w", row[0], row[1], row[2], err)
		}
		w.report("database %s: extension %s now has version %s", database, row[0], row[2])
	}
	return nil
}

// with runs fn while a server works in data that listens on nothing but a socket of root's and the
// cluster's user.
func (w *upgrading) with(ctx context.Context, bin, data string, fn func(socket string) error) error {
	args := append(w.serverArgs(data), "-p", strconv.Itoa(portOfOurs), "-k", w.Sockets, "-c", "listen_addresses=", "-c", "unix_socket_permissions=0700",
		"-c", "fsync=on", "-c", "logging_collector=off", "-c", "log_destination=stderr")
	c := w.command(ctx, bin, "postgres", args...)
	r, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	c.Stdout, c.Stderr = out, out
	err = c.Start()
	out.Close()
	if err != nil {
		return err
	}
	lines := make(chan []string, 1)
	go func() {
		var last []string
		s := bufio.NewScanner(r)
		for s.Scan() {
			fmt.Fprintln(w.Output, s.Text())
			if strings.Contains(s.Text(), "FATAL:") || strings.Contains(s.Text(), "PANIC:") {
				last = append(last, strings.TrimSpace(s.Text()))
			}
		}
		lines <- last[max(len(last)-programWords, 0):]
	}()
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	socket := filepath.Join(w.Sockets, fmt.Sprintf(".s.PGSQL.%d", portOfOurs))
	err = awaitServer(ctx, socket, ended)
	if err == nil {
		err = fn(socket)
		c.Process.Signal(syscall.SIGINT) // a fast shutdown: a checkpoint is written
		end := <-ended
		if err == nil {
			err = end
		}
	}
	said := <-lines
	if err != nil && len(said) > 0 {
		err = fmt.Errorf("%w: %s", err, strings.Join(said, " / "))
	}
	return err
}

// awaitServer waits until a server takes connections. One that has crashed before replays its log
// first, which takes as long as it takes.
func awaitServer(ctx context.Context, socket string, ended <-chan error) error {
	for {
		conn, err := connectTo(ctx, socket, "template1")
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case err := <-ended:
			return errors.Join(errors.New("the server has ended"), err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// EnableChecksums gives the pages of a cluster checksums, by pg_checksums. No server works in it.
// One that is cut off leaves the cluster without them and otherwise as it was: pg_checksums notes
// them last.
func (u Upgrade) EnableChecksums(ctx context.Context) (*backup.Upgraded, error) {
	w, err := u.begin()
	if err != nil {
		return nil, fmt.Errorf("enable checksums: %w", err)
	}
	bin, err := BinOf(ctx, u.Data, slices.DeleteFunc([]string{u.Bin, u.OldBin}, func(s string) bool { return s == "" })...)
	if err == nil {
		w.from, err = clusterMajor(u.Data)
	}
	if err != nil {
		return nil, fmt.Errorf("enable checksums: %w", err)
	}
	w.to = w.from
	if err := (Preparation{Data: u.Data, Bin: bin, User: u.User, Output: u.Output}).Run(ctx); err != nil {
		return nil, fmt.Errorf("enable checksums: %w", err)
	}
	control, err := w.output(ctx, bin, "pg_controldata", "-D", u.Data)
	if err != nil {
		return nil, fmt.Errorf("enable checksums: %w", err)
	}
	if controlValue(control, "Data page checksum version") != "0" {
		return nil, errors.New("enable checksums: the cluster has them already")
	}
	if state := controlValue(control, "Database cluster state"); state != "shut down" {
		return nil, fmt.Errorf("enable checksums: the cluster is %q: start PostgreSQL once, and stop it in order", state)
	}
	w.report("computing the checksum of each page")
	if err := w.program(ctx, bin, "pg_checksums", "--enable", "-D", u.Data); err != nil {
		return nil, fmt.Errorf("enable checksums: %w", err)
	}
	return &backup.Upgraded{Checksums: true}, durable.SyncFileSystem(u.Data)
}
