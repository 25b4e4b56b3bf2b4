package androidtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A syncService serves file transfers (packages/modules/adb/SYNC.TXT and file_sync_protocol.h). It
// uses commands of the user shell, and has that user's permissions.
type syncService struct {
	t *transport
	s *adbStream
}

const (
	maxSyncPath = 1024     // bytes, of adb's protocol
	maxSyncData = 64 << 10 // bytes in one DATA
)

// readRequest reads an ID of four letters and a number, usually the length of the following data.
func readRequest(r io.Reader) (id string, n uint32, err error) {
	var header [8]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return "", 0, err
	}
	return string(header[:4]), binary.LittleEndian.Uint32(header[4:]), nil
}

// readPath reads a request's path of n bytes.
func readPath(r io.Reader, n uint32) (string, error) {
	if n > maxSyncPath {
		return "", fmt.Errorf("a path of %d bytes", n)
	}
	path := make([]byte, n)
	_, err := io.ReadFull(r, path)
	return string(path), err
}

func (f *syncService) serve() {
	for {
		id, n, err := readRequest(f.s)
		if err != nil || id == "QUIT" {
			return
		}
		path, err := readPath(f.s, n)
		if err == nil {
			err = f.request(id, path)
		}
		if err != nil {
			f.fail(err)
			return
		}
	}
}

func (f *syncService) request(id, path string) error {
	switch id {
	case "STAT":
		return f.reply(f.statV1(path))
	case "STA2":
		return f.reply(f.statV2(id, "stat --dereference", path))
	case "LST2":
		return f.reply(f.statV2(id, "stat", path))
	case "LIST", "LIS2":
		return f.list(id, path)
	case "RECV":
		return f.receive(path)
	case "SEND":
		return f.store(path)
	}
	return fmt.Errorf("unknown request %q", id)
}

func (f *syncService) reply(b []byte) error {
	_, err := f.s.Write(b)
	return err
}

func (f *syncService) fail(err error) {
	text := err.Error()
	f.reply(append(binary.LittleEndian.AppendUint32([]byte("FAIL"), uint32(len(text))), text...))
}

// output runs a command with a path as its last argument, and returns its standard output.
func (f *syncService) output(command, path string) (string, error) {
	var out, said bytes.Buffer
	run := f.t.asShell("/usr/bin/env", "PATH=/usr/bin", "sh", "-c", command+` -- "$1"`, "sh", path)
	run.Stdout, run.Stderr = &out, &said
	if err := run.Run(); err != nil {
		return "", fmt.Errorf("%s", strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

// statFormat is GNU stat's option for the numbers that stat returns: mode, size, three times,
// device, inode, links, user and group.
const statFormat = ` --printf '%f %s %X %Y %Z %d %i %h %u %g'`

// stat returns the numbers of statFormat, or nil if the file does not exist.
func (f *syncService) stat(command, path string) []uint64 {
	text, err := f.output(command+statFormat, path)
	if err != nil {
		return nil
	}
	numbers := make([]uint64, 10)
	for i, field := range strings.Fields(text) {
		base := 10
		if i == 0 {
			base = 16
		}
		numbers[i], _ = strconv.ParseUint(field, base, 64)
	}
	return numbers
}

// statV1 returns a STAT reply: mode, size and modification time, all 0 if the file does not exist.
func (f *syncService) statV1(path string) []byte {
	b := []byte("STAT")
	n := f.stat("stat", path)
	if n == nil {
		n = make([]uint64, 10)
	}
	for _, i := range []int{0, 1, 3} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n[i]))
	}
	return b
}

// statV2 returns a reply with error, device, inode, mode, links, owner, group, size and three
// times.
func (f *syncService) statV2(id, command, path string) []byte {
	const noEntry = 2 // ENOENT, the same on every Linux
	n := f.stat(command, path)
	fault := uint32(0)
	if n == nil {
		n, fault = make([]uint64, 10), noEntry
	}
	b := binary.LittleEndian.AppendUint32([]byte(id), fault)
	b = binary.LittleEndian.AppendUint64(b, n[5])
	b = binary.LittleEndian.AppendUint64(b, n[6])
	for _, i := range []int{0, 7, 8, 9} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n[i]))
	}
	for _, i := range []int{1, 2, 3, 4} {
		b = binary.LittleEndian.AppendUint64(b, n[i])
	}
	return b
}

// list sends an entry for each name in a folder, then DONE.
func (f *syncService) list(id, path string) error {
	v2 := id == "LIS2"
	entry := func(name string) []byte {
		var b []byte
		if v2 {
			b = f.statV2("DNT2", "stat", path+"/"+name)
		} else {
			b = append([]byte("DENT"), f.statV1(path + "/" + name)[4:]...)
		}
		return append(binary.LittleEndian.AppendUint32(b, uint32(len(name))), name...)
	}
	names, err := f.output("ls -a1", path)
	if err == nil {
		for _, name := range strings.Split(strings.TrimSuffix(names, "\n"), "\n") {
			if err := f.reply(entry(name)); err != nil {
				return err
			}
		}
	}
	size := 4 * 4 // without the ID
	if v2 {
		size = 4 + 2*8 + 4*4 + 4*8 + 4
	}
	return f.reply(append([]byte("DONE"), make([]byte, size)...))
}

// receive sends a file to the client.
func (f *syncService) receive(path string) error {
	run := f.t.asShell("/usr/bin/cat", "--", path)
	var said bytes.Buffer
	out, err := run.StdoutPipe()
	run.Stderr = &said
	if err == nil {
		err = run.Start()
	}
	if err != nil {
		return err
	}
	buffer := make([]byte, maxSyncData)
	for {
		n, err := io.ReadFull(out, buffer)
		if n > 0 {
			if err := f.reply(append(binary.LittleEndian.AppendUint32([]byte("DATA"), uint32(n)), buffer[:n]...)); err != nil {
				return err
			}
		}
		if err != nil {
			break
		}
	}
	if err := run.Wait(); err != nil {
		return fmt.Errorf("%s", strings.TrimSpace(said.String()))
	}
	return f.reply(append([]byte("DONE"), 0, 0, 0, 0))
}

// store receives a file: path and mode, then DATA until DONE with the file's time.
func (f *syncService) store(request string) error {
	comma := strings.LastIndexByte(request, ',')
	if comma < 0 {
		return fmt.Errorf("%q lacks a mode", request)
	}
	path := request[:comma]
	mode, err := strconv.ParseUint(request[comma+1:], 10, 32)
	if err != nil {
		return fmt.Errorf("%q is not a mode", request[comma+1:])
	}
	run := f.t.asShell("/usr/bin/env", "PATH=/usr/bin", "sh", "-c", `cat >"$1" && chmod "$2" "$1"`, "sh", path, fmt.Sprintf("%o", mode&0o777))
	var said bytes.Buffer
	run.Stderr = &said
	in, err := run.StdinPipe()
	if err == nil {
		err = run.Start()
	}
	if err != nil {
		return err
	}
	fault := f.content(in)
	in.Close()
	if err := run.Wait(); err != nil && said.Len() > 0 {
		return fmt.Errorf("%s", strings.TrimSpace(said.String()))
	}
	if fault != nil {
		return fault
	}
	return f.reply(append([]byte("OKAY"), 0, 0, 0, 0))
}

// content copies DATA to w until DONE. After a failed write it reads and discards the rest: the
// client gets the error at the end.
func (f *syncService) content(w io.Writer) error {
	var fault error
	for {
		id, n, err := readRequest(f.s)
		switch {
		case err != nil:
			return err
		case id == "DONE":
			return fault
		case id != "DATA" || n > maxSyncData:
			return fmt.Errorf("%q of %d bytes where DATA belongs", id, n)
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(f.s, data); err != nil {
			return err
		}
		if fault == nil {
			_, fault = w.Write(data)
		}
	}
}
