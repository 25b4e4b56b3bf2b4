package databases

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/host/agefile"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
)

// A Saved is a backup that was written.
type Saved struct {
	File      string   `json:"file"`
	Size      int64    `json:"size"` // bytes
	Databases []string `json:"databases"`
	Services  []string `json:"services"` // whose data it holds
	// Recipients is how many the file is encrypted to; 0: it is plain.
	Recipients int `json:"recipients"`
}

// Save writes the databases and services' data of a running machine to a file, which appears, or
// replaces an older one, when it is complete and verified. With recipients it is encrypted while it
// is received. now is the clock. With identity it includes the machine's tailnet node.
func Save(ctx context.Context, s *fleet.Site, name, path string, to []agefile.Recipient, identity bool, now func() time.Time, passed Passed) (*Saved, error) {
	asked := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, in := io.Pipe()
	ended := make(chan struct{})
	go func() {
		var flags []string
		if identity {
			flags = append(flags, "--identity")
		}
		err := s.Runner(ctx, device.Command{Stdout: in, Limit: device.NoLimit, Idle: idle}, "backup", name, flags...)
		in.CloseWithError(err) // io.EOF after success: the stream has its own end
		close(ended)
	}()
	about := backup.Backup{Machine: name, Time: now().UTC().Truncate(time.Second)}
	made, err := backup.Create(path, about, backup.NewReader(count(stream, now, passed)), encryption(to))
	stream.CloseWithError(errors.New("the backup could not be written"))
	cancel()
	<-ended
	if err != nil {
		return nil, fmt.Errorf("back up %s: %w", name, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	saved := &Saved{File: path, Size: info.Size(), Databases: append([]string{}, made.Databases()...), Services: append([]string{}, made.Services()...), Recipients: len(to)}
	note, err := json.Marshal(health.Backup{Size: saved.Size, Databases: saved.Databases, Services: saved.Services})
	if err == nil {
		err = s.Runner(context.WithoutCancel(asked), device.Command{Stdin: bytes.NewReader(note), Limit: device.DefaultLimit}, "backup", name, "--saved")
	}
	if err != nil { // the backup is complete without it
		fmt.Fprintf(s.ErrOut, "backup: the phone could not record it for sov status: %v\n", err)
	}
	if identity && !slices.Contains(saved.Services, guestspec.ServiceTailscale) {
		return saved, fmt.Errorf("back up %s: %s is complete, but without the tailnet node: the running version has none, or cannot save it: push a newer version and restart", name, path)
	}
	return saved, nil
}
