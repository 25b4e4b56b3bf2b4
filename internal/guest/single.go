//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/cluster"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// singleUser executes the server in single-user mode, which needs neither a password nor a role
// that may log in. It runs in a session during which the service is stopped, with the service's
// arguments and the database postgres.
func singleUser(_ context.Context, args []string, _ io.Reader, stderr io.Writer) error {
	if err := parse(newFlags("postgres-single", stderr), args); err != nil {
		return err
	}
	spec, err := guestspec.Load(os.DirFS("/"))
	if err != nil {
		return err
	}
	i := slices.IndexFunc(spec.Services, func(s guestspec.Service) bool { return s.Name == guestspec.ServicePostgres })
	if i < 0 {
		return errors.New("PostgreSQL's single-user mode: this machine has no PostgreSQL")
	}
	service := spec.Services[i]
	command := service.Command
	if d := slices.Index(command, "-D"); d >= 0 && d+1 < len(command) {
		if err := cluster.RemoveStalePID(command[d+1], stderr); err != nil {
			return err
		}
	}
	if err := become(service.User, service.Group); err != nil {
		return fmt.Errorf("PostgreSQL's single-user mode: %w", err)
	}
	arguments := slices.Index(command, "--") + 1 // after the arguments of postgres-serve, which chooses the server
	if arguments == 0 {
		arguments = 1
	}
	argv := slices.Concat(command[:arguments], []string{"--single"}, command[arguments:], []string{"postgres"})
	if err := unix.Exec(argv[0], argv, os.Environ()); err != nil {
		return fmt.Errorf("PostgreSQL's single-user mode: %s: %w", argv[0], err)
	}
	return nil
}

// become switches this process to a user: PostgreSQL does not run as root.
func become(user, group string) error {
	cred, _, err := process.Credential(user, group)
	if err != nil {
		return err
	}
	groups := make([]int, len(cred.Groups))
	for i, g := range cred.Groups {
		groups[i] = int(g)
	}
	if err := syscall.Setgroups(groups); err != nil {
		return err
	}
	if err := syscall.Setgid(int(cred.Gid)); err != nil {
		return err
	}
	return syscall.Setuid(int(cred.Uid))
}
