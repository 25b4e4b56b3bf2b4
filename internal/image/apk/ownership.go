package apk

// A verdict says who gets a file that two packages bring.
type verdict int

const (
	newOwnerTakes verdict = iota
	oldOwnerKeeps
	ownersConflict
)

// whoseFile decides between the package that owns a file and the one that brings it too: a later
// version of the same package and packages of one origin take over from each other; else "replaces"
// decides, and between two that replace each other the greater priority.
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

// combine returns the acl of a directory that several packages bring: the lowest owner counts, and
// among entries of one owner the permissions that all of them grant.
func (a acl) combine(b acl) acl {
	switch {
	case b.uid < a.uid, b.uid == a.uid && b.gid < a.gid:
		return b
	case b.uid == a.uid && b.gid == a.gid:
		a.mode &= b.mode
	}
	return a
}

// dirACLs returns the acl of every directory that the installed packages bring.
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
