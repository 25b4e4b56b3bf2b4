//go:build linux

package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A privateServer is a server for the machine's own work in a cluster: it listens only on a socket
// for root and the cluster's user.
type privateServer struct {
	bin, data string
	config    string // postgresql.conf, with pg_hba.conf and pg_ident.conf beside it
	owner     *syscall.Credential
	output    io.Writer // receives its log, in lines
}

// privatePort is a part of the socket's name.
const privatePort = "50433"

// with runs the server while do runs. An error contains the server's last FATAL and PANIC lines.
func (s privateServer) with(ctx context.Context, do func(socket string) error) error {
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
		return err
	}
	c := exec.Command(filepath.Join(s.bin, "postgres"), append(serverArgs(s.data, s.config), "-p", privatePort, "-k", dir, "-c", "listen_addresses=",
		"-c", "unix_socket_permissions=0700", "-c", "autovacuum=off", "-c", "fsync=on", "-c", "logging_collector=off", "-c", "log_destination=stderr")...)
	c.Dir = dir
	c.Env = append(os.Environ(), programEnvironment...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
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
	words := make(chan []string, 1)
	go func() { words <- s.listen(r) }()
	ended := make(chan error, 1)
	go func() { ended <- c.Wait(); close(ended) }()
	socket := filepath.Join(dir, ".s.PGSQL."+privatePort)
	if err = awaitServer(ctx, socket, ended); err != nil {
		err = fmt.Errorf("start the server: %w", err)
	} else {
		err = do(socket)
	}
	c.Process.Signal(syscall.SIGINT) // a fast shutdown: a checkpoint is written
	if end := <-ended; err == nil && end != nil {
		err = fmt.Errorf("end the server: %w", end)
	}
	if said := <-words; err != nil && len(said) > 0 {
		err = fmt.Errorf("%w: %s", err, strings.Join(said, " / "))
	}
	return err
}

// listen copies the server's log to output and returns its last FATAL and PANIC lines.
func (s privateServer) listen(r io.Reader) (last []string) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fmt.Fprintln(s.output, lines.Text())
		if strings.Contains(lines.Text(), "FATAL:") || strings.Contains(lines.Text(), "PANIC:") {
			last = append(last, strings.TrimSpace(lines.Text()))
		}
	}
	_, _ = io.Copy(s.output, r) // after a line that is too long: the server blocks without a reader
	return last[max(len(last)-programWords, 0):]
}

// serverArgs returns the arguments of a server in another directory than the configured one.
func serverArgs(data, config string) []string {
	return append([]string{"-D", data}, configArgs(data, config)...)
}

// configArgs returns arguments with the machine's configuration for a private server. It uses the
// access rules beside postgresql.conf, even if ALTER SYSTEM has set others.
func configArgs(data, config string) []string {
	dir := filepath.Dir(config)
	return []string{"-c", "data_directory=" + data, "-c", "config_file=" + config, "-c", "hba_file=" + dir + "/pg_hba.conf",
		"-c", "ident_file=" + dir + "/pg_ident.conf", "-c", "ssl=off"}
}

// awaitServer waits until a server accepts connections. It has no limit of its own, because a
// crashed server replays its WAL first.
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
