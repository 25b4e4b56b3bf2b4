//go:build linux

package process

import (
	"os"
	"syscall"
)

// A Stream is a process whose standard input and output are pipes to the caller.
type Stream struct {
	*Process
	In  *os.File // nil if the process reads /dev/null
	Out *os.File
}

// Stream starts c in a new session, with a pipe for its output and, if stdin is set, for its input.
// Standard error goes to /dev/null. Name, Line, Stdin and OOMScoreAdj are not used: the process
// does not have a cgroup.
func (c Command) Stream(r *Reaper, stdin bool) (_ *Stream, err error) {
	cred, account, err := Credential(c.User, c.Group)
	if err != nil {
		return nil, err
	}
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	open = append(open, outWrite)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		outRead.Close()
		return nil, err
	}
	open = append(open, null)
	s := &Stream{Out: outRead}
	from := null
	if stdin {
		inRead, inWrite, err := os.Pipe()
		if err != nil {
			outRead.Close()
			return nil, err
		}
		open = append(open, inRead)
		from, s.In = inRead, inWrite
	}
	s.Process, err = r.start(c.Argv[0], c.Argv, &syscall.ProcAttr{
		Dir: c.Dir, Env: c.environment(account), Files: []uintptr{from.Fd(), outWrite.Fd(), null.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: cred},
	}, 0)
	if err != nil {
		outRead.Close()
		if s.In != nil {
			s.In.Close()
		}
		return nil, err
	}
	return s, nil
}
