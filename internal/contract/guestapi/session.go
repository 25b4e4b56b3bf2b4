package guestapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/session"
)

// ErrNoSessions says that the running version does not support sessions yet.
var ErrNoSessions = errors.New("this version has no shell")

// Session opens a connection that carries the frames of package session. The caller closes it.
func (c *Client) Session(ctx context.Context) (io.ReadWriteCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+PathSession, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", session.Protocol)
	response, err := c.stream.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the guest: %w", err)
	}
	if conn, ok := response.Body.(io.ReadWriteCloser); ok && response.StatusCode == http.StatusSwitchingProtocols {
		return conn, nil
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	text := strings.TrimSpace(string(body))
	if response.StatusCode == http.StatusNotFound && text != NoShell {
		return nil, ErrNoSessions
	}
	return nil, errors.New(text)
}
