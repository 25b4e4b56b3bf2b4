//go:build linux

package process

import (
	"fmt"
	"os/user"
	"strconv"
	"syscall"
)

// Credential looks a user and a group up in the image's /etc/passwd and /etc/group. An empty group
// means the user's own.
func Credential(name, group string) (*syscall.Credential, *user.User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: does the recipe name it?", err)
	}
	gid := u.Gid
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: does the recipe name it?", err)
		}
		gid = g.Gid
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, nil, fmt.Errorf("list the groups of %s: %w", name, err)
	}
	numbers := make([]uint32, 0, len(ids)+2)
	for _, s := range append([]string{u.Uid, gid}, ids...) {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return nil, nil, fmt.Errorf("user %s: %w", name, err)
		}
		numbers = append(numbers, uint32(n))
	}
	return &syscall.Credential{Uid: numbers[0], Gid: numbers[1], Groups: numbers[2:]}, u, nil
}
