package daemon

import (
	"encoding/json"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/nametest"
)

func TestSettingsNames(t *testing.T) {
	nametest.Run(t, func(name string) error {
		text, err := json.Marshal(map[string]any{"vms": map[string]any{name: map[string]any{"cpus": 1}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = decodeSettings(text)
		return err
	})
}
