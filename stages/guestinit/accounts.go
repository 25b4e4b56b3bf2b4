package guestinit

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// maxAccounts is the largest of the files below, in bytes.
const maxAccounts = 1 << 20

// Accounts are the users and groups of a root file system: passwd(5), shadow(5)
// and group(5).
type accounts struct {
	passwd, shadow, group *accountFile
}

// An accountFile is a file of colon-separated lines, the first field of each
// being a name.
type accountFile struct {
	path    string
	inode   *tree.Inode // the file in the layers below, or nil
	lines   []string
	changed bool
}

// Owners returns a function that returns the ids of a user and a group by name, from a root file
// system and the recipe. If group is empty, it returns the user's group.
func Owners(below *tree.Tree, r *recipe.Recipe) (func(user, group string) (uid, gid uint32, err error), error) {
	a, err := accountsOf(below, r)
	if err != nil {
		return nil, err
	}
	return a.owner, nil
}

// IDs returns the ids of all users and groups, by name, that a root file system and the recipe
// have.
func IDs(below *tree.Tree, r *recipe.Recipe) (users, groups map[string]uint32, err error) {
	a, err := accountsOf(below, r)
	if err != nil {
		return nil, nil, err
	}
	return a.passwd.ids(), a.group.ids(), nil
}

// ids returns the third field of the first line of each name.
func (f *accountFile) ids() map[string]uint32 {
	out := map[string]uint32{}
	for _, line := range f.lines {
		fields := strings.Split(line, ":")
		if len(fields) < 3 {
			continue
		}
		if _, known := out[fields[0]]; known {
			continue
		}
		if id, err := parseID(fields[2]); err == nil {
			out[fields[0]] = id
		}
	}
	return out
}

// accountsOf adds the recipe's users and groups to those of the layers below.
func accountsOf(below *tree.Tree, r *recipe.Recipe) (*accounts, error) {
	a, err := readAccounts(below)
	if err != nil {
		return nil, err
	}
	for _, g := range r.Groups {
		if err := a.addGroup(g.Name, g.GID); err != nil {
			return nil, err
		}
	}
	for _, u := range r.Users {
		if err := a.addUser(u); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *accounts) owner(user, group string) (uid, gid uint32, err error) {
	uid, gid, err = a.ids(user)
	if err == nil && group != "" {
		gid, err = a.groupID(group)
	}
	return uid, gid, err
}

func readAccounts(t *tree.Tree) (*accounts, error) {
	var a accounts
	for path, file := range map[string]**accountFile{"etc/passwd": &a.passwd, "etc/shadow": &a.shadow, "etc/group": &a.group} {
		f, err := readAccountFile(t, path)
		if err != nil {
			return nil, err
		}
		*file = f
	}
	return &a, nil
}

func readAccountFile(t *tree.Tree, path string) (*accountFile, error) {
	b, err := overlay.ReadFile(t, path, maxAccounts)
	if errors.Is(err, fs.ErrNotExist) {
		return &accountFile{path: path}, nil
	}
	if err != nil {
		return nil, err
	}
	resolved, n, err := t.Resolve(path)
	if err != nil {
		return nil, err
	}
	f := &accountFile{path: resolved, inode: n}
	if text := strings.TrimRight(string(b), "\n"); text != "" {
		f.lines = strings.Split(text, "\n")
	}
	return f, nil
}

// find returns the fields of the line for a name.
func (f *accountFile) find(name string) ([]string, bool) {
	for _, line := range f.lines {
		if fields := strings.Split(line, ":"); fields[0] == name {
			return fields, true
		}
	}
	return nil, false
}

// owner returns the name of the line with the given id in the third field.
func (f *accountFile) owner(id int) (string, bool) {
	for _, line := range f.lines {
		if fields := strings.Split(line, ":"); len(fields) > 2 && fields[2] == strconv.Itoa(id) {
			return fields[0], true
		}
	}
	return "", false
}

func (f *accountFile) add(line string) {
	f.lines = append(f.lines, line)
	f.changed = true
}

// addGroup adds a group unless the name exists, with any id.
func (a *accounts) addGroup(name string, gid int) error {
	if _, ok := a.group.find(name); ok {
		return nil
	}
	if other, taken := a.group.owner(gid); taken {
		return fmt.Errorf("add group %s: id %d is that of group %s", name, gid, other)
	}
	a.group.add(fmt.Sprintf("%s:x:%d:", name, gid))
	return nil
}

// addUser adds a user and its group unless their names exist.
func (a *accounts) addUser(u recipe.User) error {
	if _, ok := a.passwd.find(u.Name); ok {
		return nil
	}
	if other, taken := a.passwd.owner(u.UID); taken {
		return fmt.Errorf("add user %s: id %d is that of user %s", u.Name, u.UID, other)
	}
	if err := a.addGroup(u.Group, u.GID); err != nil {
		return fmt.Errorf("add user %s: %w", u.Name, err)
	}
	gid, err := a.groupID(u.Group)
	if err != nil {
		return fmt.Errorf("add user %s: %w", u.Name, err)
	}
	a.passwd.add(fmt.Sprintf("%s:x:%d:%d:%s:%s:%s", u.Name, u.UID, gid, u.Gecos, u.Home, u.Shell))
	if _, ok := a.shadow.find(u.Name); !ok {
		// No password matches "*". With "!" sshd would treat the account as locked and refuse its
		// keys too.
		a.shadow.add(u.Name + ":*::0:::::")
	}
	return nil
}

// ids returns the ids of a user and of its primary group.
func (a *accounts) ids(user string) (uid, gid uint32, err error) {
	fields, ok := a.passwd.find(user)
	if !ok {
		return 0, 0, fmt.Errorf("there is no user %s: neither the base image nor its packages have one, and the recipe's users do not list it", user)
	}
	if len(fields) < 4 {
		return 0, 0, fmt.Errorf("%s: the line of %s has %d fields", a.passwd.path, user, len(fields))
	}
	if uid, err = parseID(fields[2]); err == nil {
		gid, err = parseID(fields[3])
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%s: user %s: %w", a.passwd.path, user, err)
	}
	return uid, gid, nil
}

func (a *accounts) groupID(name string) (uint32, error) {
	fields, ok := a.group.find(name)
	if !ok {
		return 0, fmt.Errorf("there is no group %s", name)
	}
	if len(fields) < 3 {
		return 0, fmt.Errorf("%s: the line of %s has %d fields", a.group.path, name, len(fields))
	}
	return parseID(fields[2])
}

func parseID(text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err
}

// write adds the changed files to the share.
func (a *accounts) write(b *overlay.Builder) {
	for _, f := range []struct {
		*accountFile
		perm uint32
	}{{a.passwd, 0o644}, {a.shadow, 0o640}, {a.group, 0o644}} {
		if !f.changed {
			continue
		}
		old := f.inode
		if old == nil {
			old = &tree.Inode{Mode: f.perm}
		}
		b.Replace(f.path, old, []byte(strings.Join(f.lines, "\n")+"\n"))
	}
}
