package systemd

import (
	"fmt"
	"strings"
	"time"
)

// A Unit describes a service that runs a machine until it is stopped.
type Unit struct {
	Name        string        // such as "sov-sql", without ".service"
	Description string        // shown by systemctl
	Command     []string      // the first is an absolute path
	Environment []string      // NAME=VALUE
	Start       time.Duration // timeout until it is ready
	Stop        time.Duration // timeout of its shutdown
}

// File returns the name of the unit's file.
func (u Unit) File() string { return u.Name + ".service" }

// Text returns the content of the unit's file, for a user's service manager.
//
// Only sov gets SIGTERM, and shuts the machine down.
func (u Unit) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[Unit]\nDescription=%s\nAfter=network-online.target\n\n", literal(u.Description))
	fmt.Fprintf(&b, "[Service]\nType=notify\nNotifyAccess=main\n")
	for _, variable := range u.Environment {
		fmt.Fprintf(&b, "Environment=%s\n", quote(variable, false))
	}
	words := make([]string, len(u.Command))
	for i, word := range u.Command {
		words[i] = quote(word, i > 0)
	}
	fmt.Fprintf(&b, "ExecStart=%s\n", strings.Join(words, " "))
	fmt.Fprintf(&b, "TimeoutStartSec=%d\nTimeoutStopSec=%d\nKillMode=mixed\nRestart=on-failure\nRestartSec=10\n\n", seconds(u.Start), seconds(u.Stop))
	fmt.Fprintf(&b, "[Install]\nWantedBy=default.target\n")
	return b.String()
}

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// literal escapes specifiers in a value (systemd.unit(5), "Specifiers").
func literal(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "%", "%%"), "\n", " ")
}

// quote quotes a word (systemd.syntax(7), "Quoting"). expanded is that systemd expands variables in
// it (systemd.service(5), "Command lines"), which are escaped then.
func quote(word string, expanded bool) string {
	if expanded {
		word = strings.ReplaceAll(word, "$", "$$")
	}
	word = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\r", `\r`, "%", "%%").Replace(word)
	if word != "" && !strings.ContainsAny(word, ` "'\;`) {
		return word
	}
	return `"` + word + `"`
}
