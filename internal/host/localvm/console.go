package localvm

import (
	"os"
	"strings"
)

// LastLines returns the last lines of a console's log, to be shown when the machine does not start.
func LastLines(path string) (string, error) {
	const lines = 20
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	all := strings.Split(strings.TrimRight(string(text), "\r\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n"), nil
}
