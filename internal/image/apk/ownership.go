package apk

// A verdict decides the owner of a file that two packages have.
type verdict int

const (
	newOwnerTakes verdict = iota
	oldOwnerKeeps
	ownersConflict
)

// whoseFile decides between the owner of a file and a new package that also has it. A new version
// of the same package and a package of the same origin take the file over. Otherwise "replaces"
// decides; if both replace each other, the higher priority wins.
func whoseFile(owner, comer *Package) verdict {
	if owner.Name == comer.Name || owner.Origin != "" && owner.Origin == comer.Origin {
		return newOwnerTakes
	}
	ownerPriority, comerPriority := owner.replacesPriority(comer), comer.replacesPriority(owner)
	switch {
	case ownerPriority > comerPriority:
		return oldOwnerKeeps
	case comerPriority >= 0:
		return newOwnerTakes
	}
	return ownersConflict
}

// replacesPriority returns the priority with which p replaces the files of q, or -1 if it does not.
func (p *Package) replacesPriority(q *Package) int {
	for _, d := range p.Replaces {
		if d.Name == q.Name && d.accepts(q, q.Version) {
			return p.ReplacesPriority
		}
	}
	return -1
}

// combine returns the acl of a directory that several packages have: that of the lowest owner, and
// for the same owner the permissions that all of them grant.
func (a acl) combine(b acl) acl {
	switch {
	case b.uid < a.uid, b.uid == a.uid && b.gid < a.gid:
		return b
	case b.uid == a.uid && b.gid == a.gid:
		a.mode &= b.mode
	}
	return a
}

// dirACLs returns the acl of every directory of the installed packages.
func (db *database) dirACLs() map[string]acl {
	acls := map[string]acl{}
	for _, p := range db.packages {
		for _, d := range p.dirs {
			a := d.acl
			if known, ok := acls[d.path]; ok {
				a = known.combine(a)
			}
			acls[d.path] = a
		}
	}
	return acls
}
