package ext4

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/sovereign-sql/sov/internal/finding"
)

// subject names the subject of a problem: an inode, by the first name found of it, or the file
// system.
func (c *checker) subject(inode uint32) string {
	if inode == 0 {
		return "file system"
	}
	if path := c.pathOf(inode); path != "" {
		return fmt.Sprintf("%s (inode %d)", path, inode)
	}
	return fmt.Sprintf("inode %d", inode)
}

// A problem concerns an inode, or the file system if inode is 0.
type problem struct {
	inode uint32
	what  string
}

// maxProblems is the number of problems after which Check stops.
const maxProblems = 1000

// Check verifies the consistency of the metadata: all checksums, the use of each block and inode
// against the bitmaps and counts, blocks with two owners, the blocks reserved for growth,
// directories and their hash indexes, "." and "..", link counts, inodes without a name, extended
// attributes, the journal's superblock, and the state in the superblock. It does not check what
// only writers use, such as the journal's content and quotas. It does not read the content of
// files, for which ext4 has no checksums.
//
// It returns a failed finding for each problem, at most a thousand. The error is a read error of
// the image, or that of ctx. It needs a bit of memory for each block, and about 100 bytes and the
// name for each inode in use.
func (f *FS) Check(ctx context.Context) ([]finding.Finding, error) {
	c := &checker{
		fs: f, ctx: ctx,
		used:        make([][]byte, len(f.groups)),
		metadata:    make([]uint32, len(f.groups)),
		shared:      map[uint32]bool{},
		inodes:      map[uint32]*inodeUse{},
		xattrBlocks: map[uint64]uint32{},
	}
	steps := []func() error{
		c.checkState, c.claimGroups, c.checkInodes, c.checkXattrBlocks, c.checkJournal,
		c.checkDirectories, c.checkLinks, c.checkBitmaps, c.checkTotals,
	}
	for _, step := range steps {
		err := step()
		if errors.Is(err, errTooMany) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("check ext4: %w", err)
		}
	}
	findings := make([]finding.Finding, len(c.problems))
	for i, p := range c.problems {
		findings[i] = finding.Fail(c.subject(p.inode), p.what, "")
	}
	return findings, nil
}

var errTooMany = errors.New("too many problems")

// checker collects the claims of the parts of a file system, and the problems.
type checker struct {
	fs       *FS
	ctx      context.Context
	problems []problem

	used     [][]byte // a bitmap for each group, nil while it is empty
	metadata []uint32 // how many blocks of each group are metadata
	// Groups whose inode tables overlap something else. Their inodes are not read: many groups with
	// the same table would have many times the inodes that the image has space for.
	shared      map[uint32]bool
	inodes      map[uint32]*inodeUse
	xattrBlocks map[uint64]uint32 // attribute blocks and how many inodes share each

	// Something could not be read, so blocks or inodes that seem unused may be in use.
	blocksUnknown, namesUnknown bool
}

// inodeUse is Check's state of an inode in use.
type inodeUse struct {
	mode    uint16
	links   uint16 // i_links_count
	flags   uint32
	refs    uint32 // names found, "." and ".." included
	parent  uint32 // where the first name was found
	name    string
	visited bool // as a directory
}

// report adds a problem of an inode, or of the file system if inode is 0.
func (c *checker) report(inode uint32, format string, args ...any) error {
	c.problems = append(c.problems, problem{inode, fmt.Sprintf(format, args...)})
	if len(c.problems) >= maxProblems {
		return errTooMany
	}
	return nil
}

// damaged adds an error that wraps ErrCorrupt as a problem, and returns any other error.
func (c *checker) damaged(inode uint32, err error) error {
	if err == nil || !errors.Is(err, ErrCorrupt) {
		return err
	}
	return c.report(inode, "%v", err)
}

// pathOf returns the path of the first name found of an inode.
func (c *checker) pathOf(number uint32) string {
	var names []string
	for number != inodeRoot {
		use := c.inodes[number]
		if use == nil || use.name == "" {
			return ""
		}
		names = append(names, use.name)
		number = use.parent
	}
	slices.Reverse(names)
	return path.Join(append([]string{"."}, names...)...)
}

// checkState checks the state in the superblock: clean, with errors, or with a journal to replay.
func (c *checker) checkState() error {
	sb := &c.fs.sb
	var err error
	if sb.FeatureIncompat&incompatRecover != 0 {
		err = c.report(0, "the journal holds changes not yet in place: it was not unmounted")
	} else if sb.State&stateValid == 0 {
		err = c.report(0, "it was not unmounted cleanly")
	}
	if sb.State&stateErrors != 0 {
		err = errors.Join(err, c.report(0, "the kernel found errors in it"))
	}
	if sb.LastOrphan != 0 || sb.FeatureROCompat&roCompatOrphanPresent != 0 {
		err = errors.Join(err, c.report(0, "files deleted while open wait to be freed"))
	}
	return err
}

// checkLinks compares link counts with the names found, and finds inodes
// without any.
func (c *checker) checkLinks() error {
	if c.namesUnknown {
		return nil
	}
	for _, number := range sortedKeys(c.inodes) {
		use := c.inodes[number]
		switch {
		case number < c.fs.firstInode() && number != inodeRoot, c.isHidden(number, use):
			continue
		case use.refs == 0:
			if err := c.report(number, "it is in use, but no directory names it"); err != nil {
				return err
			}
		case !use.linksAgree(c.fs.sb.FeatureROCompat&roCompatDirNlink != 0):
			if err := c.report(number, "link count is %d, found %d", use.links, use.refs); err != nil {
				return err
			}
		}
	}
	return nil
}

// linksAgree compares the link count with the names found. A directory with
// more than 64,998 directories in it stops counting at 1.
func (u *inodeUse) linksAgree(dirNlink bool) bool {
	if u.links == 1 && dirNlink && u.mode&modeTypeMask == modeDirectory {
		return u.refs >= 65_000
	}
	return uint32(u.links) == u.refs
}

// isHidden reports whether an inode is allowed to have no name.
func (c *checker) isHidden(number uint32, use *inodeUse) bool {
	sb := &c.fs.sb
	return use.flags&inodeFlagEAInode != 0 ||
		sb.FeatureCompat&compatOrphanFile != 0 && number == sb.OrphanFileInum ||
		sb.FeatureROCompat&(roCompatQuota|roCompatProject) != 0 &&
			(number == sb.UsrQuotaInum || number == sb.GrpQuotaInum || number == sb.PrjQuotaInum)
}

// checkJournal verifies the superblock of the journal.
func (c *checker) checkJournal() error {
	sb := &c.fs.sb
	if sb.FeatureCompat&compatHasJournal == 0 {
		return nil
	}
	if sb.JournalInum == 0 {
		return c.report(0, "the journal is on another device")
	}
	return c.damaged(sb.JournalInum, c.fs.verifyJournal())
}

// verifyJournal reads the journal's superblock.
func (f *FS) verifyJournal() error {
	nd, err := f.node(f.sb.JournalInum)
	if err != nil {
		return err
	}
	b := make([]byte, journalSuperblockSize)
	if nd.Size < journalSuperblockSize {
		return corruptf("journal of %d bytes", nd.Size)
	}
	if _, err := newContent(nd).ReadAt(b, 0); err != nil {
		return err
	}
	var j journalSuperblock
	if err := j.decode(b); err != nil {
		return err
	}
	switch {
	case j.Magic != journalMagic:
		return corruptf("journal superblock has magic %#08x, not %#08x", j.Magic, uint32(journalMagic))
	case int64(j.BlockSize) != int64(f.blockSize):
		return corruptf("journal has blocks of %d bytes", j.BlockSize)
	case uint64(j.MaxLen) > nd.Size/uint64(f.blockSize) || j.First == 0 || j.First >= j.MaxLen:
		return corruptf("journal says it has blocks %d to %d, of %d", j.First, j.MaxLen, nd.Size/uint64(f.blockSize))
	case j.BlockType == journalSuperblockV2 && j.FeatureIncompat&(journalIncompatCsumV2|journalIncompatCsumV3) != 0 &&
		j.Checksum != journalSuperblockChecksum(b):
		return corruptf("journal superblock checksum is %#08x, its bytes give %#08x", j.Checksum, journalSuperblockChecksum(b))
	case j.Start != 0 && f.sb.FeatureIncompat&incompatRecover == 0:
		return corruptf("journal holds changes, but the superblock says that it does not")
	case j.Errno != 0:
		return corruptf("journal says that it was aborted with error %d", int32(j.Errno))
	}
	return nil
}

// sortedKeys returns a map's keys in order, so that the order of problems is stable.
func sortedKeys[K uint32 | uint64, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
