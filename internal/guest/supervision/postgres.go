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

// Lines, from one, of the files by which a PostgreSQL server claims its socket and its data
// directory (src/include/utils/pidfile.h), and what the status is of one that takes connections.
const (
	lockLineDirectory = 2
	lockLineStatus    = 8
	lockStatusReady   = "ready"
)

// readPostmaster returns an error while the server behind the socket says in its postmaster.pid
// that it does not take connections yet. To be asked then would make it log a FATAL error. The
// file is found through the socket's own lock file; a socket without one is not a server's (but
// that of a pooler, say) and has to be asked.
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

// lockLines reads a lock file. The server's user may put anything in its place: nothing but a
// regular file is read, and no link followed.
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

// maxLockFile bounds what is read of a lock file, in bytes: a few numbers and two paths.
const maxLockFile = 16 << 10

// askPostgres sends the startup message of PostgreSQL's protocol 3.0 and reads the kind of the
// answer, as pg_isready does. A server that asks for a password is ready; so is one that refuses
// this user. One that starts, stops or replays its log answers with SQLSTATE 57P03.
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
	// All is read even if it does not matter: closing with bytes unread resets the connection,
	// which the server would log.
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

// authenticationOK is what follows the length in an AuthenticationOk message: this user is in.
const authenticationOK = "\x00\x00\x00\x00"

// terminate ends a session in order: a server that has let a user in sends more, and logs an error
// when it cannot.
func terminate(conn io.ReadWriter) {
	if _, err := io.WriteString(conn, "X\x00\x00\x00\x04"); err == nil { // Terminate
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, maxPostgresAnswer))
	}
}

// maxPostgresAnswer is the bound that libpq has for an answer at this point, in bytes.
const maxPostgresAnswer = 30000

// errorCode returns the SQLSTATE among the fields of an ErrorResponse: each a byte that says what
// it is and a NUL-terminated string.
func errorCode(fields []byte) string {
	for _, field := range strings.Split(string(fields), "\x00") {
		if strings.HasPrefix(field, "C") {
			return field[1:]
		}
	}
	return ""
}
