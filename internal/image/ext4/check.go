package ext4

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/sovereign-sql/sov/internal/finding"
)

// subject names what a problem is with: an inode, by the first name found of it, or the file
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

// A problem is something wrong with an inode, or with none in particular where that is 0.
type problem struct {
	inode uint32
	what  string
}

// maxProblems is how many problems Check lists before it gives up.
const maxProblems = 1000

// Check compares everything that the file system says about itself: all checksums, the use of each
// block and inode with the bitmaps and counts, blocks that two owners claim, the blocks reserved
// for growth, the form of directories and of their hash indexes, "." and "..", link counts, inodes
// without a name, extended attributes, the journal's superblock, and what the superblock says of
// how the file system was left. It does not look into what only writers use: what the journal
// holds, quotas. Nor does it read the bytes of files, which ext4 keeps no checksums of.
//
// It returns a failed finding for each problem, at most a thousand. The error is one of reading the
// image, or that of ctx. Memory: a bit for each block, some 100 bytes for each inode in use and
// what its name takes.
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

// checker gathers what the parts of a file system claim, and what is wrong.
type checker struct {
	fs       *FS
	ctx      context.Context
	problems []problem

	used     [][]byte // a bitmap for each group, nil while it is empty
	metadata []uint32 // how many blocks of each group are its own
	// Groups whose inode tables stand where something else does. Their inodes are not looked at:
	// many groups with one table would be many times the inodes that the image has room for.
	shared      map[uint32]bool
	inodes      map[uint32]*inodeUse
	xattrBlocks map[uint64]uint32 // attribute blocks and how many inodes share each

	// Something could not be read, so that what is not known to be in use may
	// be in use all the same.
	blocksUnknown, namesUnknown bool
}

// inodeUse is what Check knows of an inode in use.
type inodeUse struct {
	mode    uint16
	links   uint16 // i_links_count
	flags   uint32
	refs    uint32 // names found, "." and ".." included
	parent  uint32 // where the first name was found
	name    string
	visited bool // as a directory
}

// report adds a problem with an inode, or with inode 0 none in particular.
func (c *checker) report(inode uint32, format string, args ...any) error {
	c.problems = append(c.problems, problem{inode, fmt.Sprintf(format, args...)})
	if len(c.problems) >= maxProblems {
		return errTooMany
	}
	return nil
}

// damaged adds an error that tells of damage as a problem, and returns any
// other.
func (c *checker) damaged(inode uint32, err error) error {
	if err == nil || !errors.Is(err, ErrCorrupt) {
		return err
	}
	return c.report(inode, "%v", err)
}

// pathOf gives the first name found of an inode.
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

// checkState reports what the superblock says of how it was left.
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

// isHidden reports whether an inode rightly has no name.
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

// sortedKeys gives a map's keys in order, so that problems are too.
func sortedKeys[K uint32 | uint64, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
