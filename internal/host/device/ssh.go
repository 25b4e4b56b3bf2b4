package device

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// SSH returns the computer of an ssh destination: a host, user@host, or a name in the user's ssh
// configuration, which has all other options. program is the path of ssh, or its name in $PATH. It
// does not prompt for passwords.
func SSH(program, destination string) (Phone, error) {
	if destination == "" || strings.HasPrefix(destination, "-") || strings.ContainsAny(destination, " \t\n\x00") {
		return nil, fmt.Errorf("%q is not an ssh destination: give user@host or a name of ~/.ssh/config", destination)
	}
	return &link{
		name: destination, root: phonepath.Default,
		client: func(ctx context.Context, script string, stdin bool) *exec.Cmd {
			args := []string{"-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4"}
			if !stdin {
				args = append(args, "-n")
			}
			return exec.CommandContext(ctx, program, append(args, "--", destination, "sh -c "+Quote([]string{script}))...)
		},
		explain: func(said string) string { return explainSSH(destination, said) },
	}, nil
}

func explainSSH(destination, said string) string {
	said = lastLines(said)
	switch {
	case said == "":
		return "ssh ended without a word"
	case strings.Contains(said, "Permission denied"):
		return said + ": let a key log in without a question (ssh-copy-id " + destination + ", ssh-agent)"
	case strings.Contains(said, "Host key verification failed"):
		return said + ": connect once by hand, `ssh " + destination + "`, and compare the key"
	}
	return said
}
