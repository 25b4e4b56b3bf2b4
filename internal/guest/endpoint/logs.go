//go:build linux

package endpoint

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/journal"
)

const (
	defaultLines = 100
	maxLines     = 10000
	// writePatience is how long a client may take to read a response.
	writePatience = 30 * time.Second
)

// A logQuery selects lines of the log.
type logQuery struct {
	service string // empty: all
	lines   int
	follow  bool
}

func parseLogQuery(r *http.Request) (logQuery, error) {
	q := logQuery{lines: defaultLines}
	for key, values := range r.URL.Query() {
		value := values[0]
		var err error
		switch key {
		case guestapi.QueryService:
			if q.service = value; !guestspec.ValidServiceName(value) {
				err = errors.New("no service can have this name")
			}
		case guestapi.QueryLines:
			if q.lines, err = strconv.Atoi(value); err != nil || q.lines < 0 || q.lines > maxLines {
				err = fmt.Errorf("is not a number from 0 to %d", maxLines)
			}
		case guestapi.QueryFollow:
			q.follow, err = strconv.ParseBool(value)
		default:
			err = errors.New("is not known")
		}
		if err != nil {
			return q, fmt.Errorf("%s=%q: %w", key, value, err)
		}
	}
	return q, nil
}

// serveLogs responds with lines of the log.
func (s *Server) serveLogs(w http.ResponseWriter, r *http.Request) {
	q, err := parseLogQuery(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	lines, f, err := s.readLog(q)
	switch {
	case errors.Is(err, journal.ErrTooManyFollowers):
		w.Header().Set("Retry-After", "10")
		http.Error(w, err.Error(), http.StatusTooManyRequests)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if f != nil {
		defer s.config.Journal.Leave(f)
	}
	if len(lines) == 0 && q.service != "" && !s.knowsService(q.service) {
		http.Error(w, "there is no service "+q.service, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := http.NewResponseController(w)
	// Nothing more is read. Not every ResponseWriter has a deadline.
	_ = out.SetReadDeadline(time.Time{})
	if err := send(w, out, lines...); err != nil || f == nil {
		return
	}
	for {
		select {
		case line := <-f.Lines:
			if n := f.Missed(); n > 0 {
				line += fmt.Sprintf("\n(%d lines are left out: they came too fast)", n)
			}
			if send(w, out, line) != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) readLog(q logQuery) ([]string, *journal.Follower, error) {
	if q.follow {
		return s.config.Journal.Follow(q.service, q.lines)
	}
	lines, err := s.config.Journal.Tail(q.service, q.lines)
	return lines, nil, err
}

// knowsService reports whether a service's log can be requested.
func (s *Server) knowsService(name string) bool {
	return name == journal.InitName || slices.ContainsFunc(s.config.Services, func(spec guestspec.Service) bool { return spec.Name == name })
}

// send writes lines to a client, which may be slow. It fails if the client does not read at all.
func send(w io.Writer, out *http.ResponseController, lines ...string) error {
	for _, line := range lines {
		_ = out.SetWriteDeadline(time.Now().Add(writePatience))
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			return err
		}
	}
	return out.Flush()
}
