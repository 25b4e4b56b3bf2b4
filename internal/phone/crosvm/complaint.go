package crosvm

import (
	"regexp"
	"strings"
)

// Prefixes of crosvm's own lines: `[TIME LEVEL module] text`, on Android 13 `[LEVEL:file:line]
// text`.
var (
	logLine = regexp.MustCompile(`^\[(?:\d{4}-\S+ +)?(ERROR|WARN|INFO|DEBUG|TRACE)[ :][^\]]*\] (.*)$`)
	// ownLine matches the start of the runner's own lines in the same log.
	ownLine = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\S+Z `)
	// exiting is the last line of a crosvm that failed; anyhow's causes follow it, a line each.
	exiting = regexp.MustCompile(`^(?:exiting with error \d+: |crosvm has exited with error: |arg parsing failed: )(.*)$`)
	counted = regexp.MustCompile(`^\d+: `)
)

// Complaint returns why crosvm failed, from its output: the last error with its causes, as one
// line. If crosvm itself printed nothing, it is the last line of another program, such as the
// linker.
func Complaint(said string) string {
	var causes []string
	last, taking := "", false
	for line := range strings.Lines(said) {
		line = strings.TrimRight(line, "\r\n")
		entry := logLine.FindStringSubmatch(line)
		switch {
		case ownLine.MatchString(line):
			taking = false
		case entry != nil:
			taking = false
			if m := exiting.FindStringSubmatch(entry[2]); m != nil {
				causes, taking = []string{m[1]}, true
			} else if entry[1] == "ERROR" && causes == nil {
				last = entry[2]
			} else if strings.HasPrefix(entry[2], "system crash event") {
				last = entry[2]
			}
		case taking && strings.HasPrefix(line, "    "):
			causes = append(causes, counted.ReplaceAllString(strings.TrimSpace(line), ""))
		case taking && (line == "" || line == "Caused by:"):
		default:
			taking = false
			if text := strings.TrimSpace(line); text != "" {
				last = text
			}
		}
	}
	if causes != nil {
		return strings.Join(causes, ": ")
	}
	return last
}
