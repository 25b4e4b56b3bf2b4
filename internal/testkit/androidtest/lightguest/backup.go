package lightguest

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/sovereign-sql/sov/internal/contract/backup"
)

// data holds the data of the script's services. A restore replaces them.
type data struct {
	mu sync.Mutex
	of map[string]string
}

// save answers with a backup stream.
func (d *data) save(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	stream := backup.NewWriter(w)
	for name, content := range d.of {
		_ = stream.Begin(backup.Part{Kind: backup.KindStream, Service: &backup.Service{Name: name}}) // the last call returns the error
		_, _ = io.WriteString(stream, content)
		_ = stream.End()
	}
	_ = stream.Close() // the caller has disconnected
}

// restore reads a backup stream. It changes nothing unless the stream is complete.
func (d *data) restore(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken, did := map[string]string{}, &backup.Restoration{}
	parts := backup.NewReader(r.Body)
	for {
		part, content, err := parts.Next()
		if err == io.EOF {
			break
		}
		var text []byte
		if err == nil {
			text, err = io.ReadAll(content)
		}
		if err != nil {
			_ = json.NewEncoder(w).Encode(backup.Event{Fault: err.Error()}) // or the caller has disconnected
			return
		}
		taken[part.Service.Name] = string(text)
		did.Services = append(did.Services, part.Service.Name)
	}
	for name, text := range taken {
		d.of[name] = text
	}
	slices.Sort(did.Services)
	_ = json.NewEncoder(w).Encode(backup.Event{Done: did})
}
