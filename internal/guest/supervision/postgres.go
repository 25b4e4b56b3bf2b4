//go:build linux

package supervision

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Line numbers, from 1, in the lock files of a PostgreSQL server (src/include/utils/pidfile.h), and
// the status of a server that accepts connections.
const (
	lockLineDirectory = 2
	lockLineStatus    = 8
	lockStatusReady   = "ready"
)

// readPostmaster returns an error while postmaster.pid says that the server does not accept
// connections yet; a connection would make it log a FATAL error. It finds the file through the
// socket's lock file. A socket without one belongs to another program, such as a pooler, and must
// be probed.
func readPostmaster(socket string) error {
	lock, err := lockLines(socket + ".lock")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(lock) < lockLineDirectory || !filepath.IsAbs(lock[lockLineDirectory-1]) {
		return errors.New("the socket's lock file names no data directory")
	}
	pid, err := lockLines(filepath.Join(lock[lockLineDirectory-1], "postmaster.pid"))
	if err != nil {
		return err
	}
	if len(pid) < lockLineStatus || strings.TrimSpace(pid[lockLineStatus-1]) != lockStatusReady {
		return errors.New("the server is starting up")
	}
	return nil
}

// lockLines reads a lock file. The server's user could replace it, so it must be a regular file,
// and links are not followed.
func lockLines(name string) ([]string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a lock file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxLockFile))
	return strings.Split(string(b), "\n"), err
}

// maxLockFile is the largest lock file, in bytes: it has a few numbers and two paths.
const maxLockFile = 16 << 10

// askPostgres sends the startup message of PostgreSQL's protocol 3.0 and checks the type of the
// response, as pg_isready does. A server that requests a password or refuses this user is ready. A
// server that starts, stops or replays its WAL responds with SQLSTATE 57P03.
func askPostgres(conn io.ReadWriter) error {
	const protocol = 3 << 16
	const parameters = "user\x00postgres\x00database\x00postgres\x00\x00"
	message := binary.BigEndian.AppendUint32(nil, 8+uint32(len(parameters)))
	message = binary.BigEndian.AppendUint32(message, protocol)
	message = append(message, parameters...)
	if _, err := conn.Write(message); err != nil {
		return err
	}
	var header [5]byte // kind of message, length of the rest with these four bytes
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return err
	}
	kind, length := header[0], binary.BigEndian.Uint32(header[1:])
	if kind != 'R' && kind != 'E' || length < 4 || length > maxPostgresAnswer {
		return errors.New("this is not a PostgreSQL server")
	}
	// Read the whole message: closing with unread bytes resets the connection, which the server
	// would log.
	fields := make([]byte, length-4)
	if _, err := io.ReadFull(conn, fields); err != nil {
		return err
	}
	if kind == 'E' && errorCode(fields) == "57P03" {
		return errors.New("the server is starting up")
	}
	if kind == 'R' && string(fields) == authenticationOK {
		terminate(conn)
	}
	return nil
}

// authenticationOK is the content of an AuthenticationOk message.
const authenticationOK = "\x00\x00\x00\x00"

// terminate ends a session cleanly: after authentication the server sends more messages, and logs
// an error if it cannot.
func terminate(conn io.ReadWriter) {
	if _, err := io.WriteString(conn, "X\x00\x00\x00\x04"); err == nil { // Terminate
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, maxPostgresAnswer))
	}
}

// maxPostgresAnswer is libpq's limit of a response at this point, in bytes.
const maxPostgresAnswer = 30000

// errorCode returns the SQLSTATE in the fields of an ErrorResponse. Each field is a type byte and a
// NUL-terminated string.
func errorCode(fields []byte) string {
	for _, field := range strings.Split(string(fields), "\x00") {
		if strings.HasPrefix(field, "C") {
			return field[1:]
		}
	}
	return ""
}
