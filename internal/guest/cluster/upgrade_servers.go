//go:build linux

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/durable"
)

// properties are the properties of the old cluster that the new one gets.
type properties struct {
	size                     int64 // of its files, in bytes
	checksums                bool
	segment                  int64 // of the write-ahead log, in bytes
	encoding, collate, ctype string
	provider, locale, rules  string // of template0; provider is pg_database.datlocprovider
}

// portOfUpgrade is pg_upgrade's default port. It is only a part of the names of its servers'
// sockets: they do not listen on an address.
const portOfUpgrade = 50432

// A program's environment: pg_upgrade and initdb parse the output of other programs and require the
// C locale.
var programEnvironment = []string{"LC_ALL=C", "TZ=UTC"}

// programWords is how many of a failed program's last lines the error contains.
const programWords = 6

// program runs one of the server's programs to its end as the cluster's user.
func (w *upgrading) program(ctx context.Context, bin, name string, args ...string) error {
	_, err := w.output(ctx, bin, name, args...)
	return err
}

// output is like program and returns the standard output.
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
		c.Dir = w.notes() // pg_upgrade writes its log files there
	}
	c.Env = append(os.Environ(), programEnvironment...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: w.owner, Setpgid: true}
	// Killing only the program would leave its children.
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	return c
}

// lookAtOld reads the properties of the old cluster from its running server. The start also replays
// the WAL of a cluster that was not shut down cleanly, which pg_upgrade would refuse.
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

// initArgs returns initdb's arguments for the properties of the old cluster.
func (w *upgrading) initArgs() []string {
	args := []string{
		"--pgdata=" + clusterIn(w.Data), "--username=" + superuser, "--auth-local=peer", "--auth-host=scram-sha-256",
		"--encoding=" + w.old.encoding, "--locale=C", "--lc-collate=" + w.old.collate, "--lc-ctype=" + w.old.ctype,
		"--wal-segsize=" + strconv.FormatInt(w.old.segment>>20, 10),
	}
	switch {
	case w.old.checksums:
		args = append(args, "--data-checksums")
	case !olderThan(w.to, "18"): // which enables checksums by default
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

// takeSettings copies the settings of ALTER SYSTEM to the new cluster. It returns an error if the
// new server does not support them.
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
	args := append(serverArgs(clusterIn(w.Data), w.Config), "-C", "data_checksums")
	if _, err := w.output(ctx, w.Bin, "postgres", args...); err != nil {
		return fmt.Errorf("the settings, those of ALTER SYSTEM among them, do not fit PostgreSQL %s: ALTER SYSTEM RESET the one that is named: %w", w.to, err)
	}
	return nil
}

// pgUpgrade runs pg_upgrade with additional arguments. Both servers use the machine's
// configuration: initdb's default needs more memory than a small machine has.
func (w *upgrading) pgUpgrade(ctx context.Context, more ...string) error {
	options := func(data string) string {
		return strings.Join(configArgs(data, w.Config), " ")
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

// noteFiles matches the files in which pg_upgrade lists the reasons for refusing: in its working
// directory, and since version 15 in the new cluster (PostgreSQL's src/bin/pg_upgrade/check.c).
var noteFiles = regexp.MustCompile(`^(loadable_libraries|tables_|reg|incompatible_|contrib_|databases_|tsvector_|invalid_).*\.txt$`)

// maxNotes is how many bytes of these files an error contains.
const maxNotes = 2000

func (w *upgrading) readNotes() string {
	var found []string
	dirs, _ := filepath.Glob(filepath.Join(clusterIn(w.Data), "pg_upgrade_output.d", "*")) // the pattern is well formed
	for _, dir := range append(dirs, w.notes()) {
		entries, _ := os.ReadDir(dir) // without the directory there are no reasons
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
		return w.program(ctx, w.Bin, "vacuumdb", "--host="+filepath.Dir(socket), "--port="+privatePort, "--username="+superuser, "--all", "--analyze-only")
	})
}

// updateExtensions updates each extension to the new server's version.
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

// with runs fn while a server runs in data.
func (w *upgrading) with(ctx context.Context, bin, data string, fn func(socket string) error) error {
	return privateServer{bin: bin, data: data, config: w.Config, owner: w.owner, output: w.Output}.with(ctx, fn)
}

// EnableChecksums enables the cluster's page checksums with pg_checksums. No server may run in it.
// If it is interrupted, the checksums stay disabled and the cluster works as before: pg_checksums
// enables them last.
func (u Upgrade) EnableChecksums(ctx context.Context) (*backup.Upgraded, error) {
	w, err := u.begin()
	if err != nil {
		return nil, fmt.Errorf("enable checksums: %w", err)
	}
	bin, err := BinOf(ctx, u.Data, u.Bin, u.OldBin)
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
