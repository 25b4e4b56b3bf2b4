package guestapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/backup"
)

// open sends a request with a body and a response of any length: only ctx limits its time.
func (c *Client) open(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	response, err := c.stream.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the guest: %w", err)
	}
	switch response.StatusCode {
	case http.StatusOK:
		return response.Body, nil
	case http.StatusNotFound:
		err = fmt.Errorf("the version that runs knows no %s: push a newer one and restart", strings.Trim(request.URL.Path, "/"))
	default:
		text, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		err = errors.New(strings.TrimSpace(string(text)))
	}
	response.Body.Close()
	return nil, err
}

// QueryIdentity is the query key for PathBackup that includes the machine's tailnet node in the
// backup. Older guests ignore it.
const QueryIdentity = "identity"

// Backup copies the backup stream to w. The reader of the stream must verify that it is complete.
// With identity it includes the machine's tailnet node.
func (c *Client) Backup(ctx context.Context, w io.Writer, identity bool) error {
	path := PathBackup
	if identity {
		path += "?" + QueryIdentity + "=1"
	}
	body, err := c.open(ctx, http.MethodGet, path, nil)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// maxEvent is the largest event, in bytes.
const maxEvent = 4 << 20

// Restore sends a stream and calls event for each event of the guest. The error is nil if the last
// one reports success.
func (c *Client) Restore(ctx context.Context, r io.Reader, event func(backup.Event)) error {
	body, err := c.open(ctx, http.MethodPost, PathRestore, io.NopCloser(r))
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return follow("restore", body, event)
}

// Upgrade runs the operation do (guestspec.DoUpgrade and others) on PostgreSQL's cluster, and calls
// event for each event of the guest. The error is nil if the last one reports success.
func (c *Client) Upgrade(ctx context.Context, do string, event func(backup.Event)) error {
	body, err := c.open(ctx, http.MethodPost, PathUpgrade+"?"+url.Values{QueryDo: {do}}.Encode(), nil)
	if err != nil {
		return fmt.Errorf("%s: %w", do, err)
	}
	return follow(do, body, event)
}

// follow reads events until the one with the result or the error.
func follow(what string, body io.ReadCloser, event func(backup.Event)) error {
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e backup.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("%s: the guest's answer: %w", what, err)
		}
		event(e)
		switch {
		case e.Done != nil || e.Upgraded != nil:
			return nil
		case e.Fault != "":
			return errors.New(e.Fault)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: the guest ended it without a word: see its console", what)
}
