package ext4

import "fmt"

// Bits of s_feature_compat: safe to ignore, for reading and for writing.
const (
	compatDirPrealloc  = 0x1
	compatImagicInodes = 0x2
	compatHasJournal   = 0x4
	compatExtAttr      = 0x8
	compatResizeInode  = 0x10
	compatDirIndex     = 0x20
	compatSparseSuper2 = 0x200
	compatFastCommit   = 0x400
	compatStableInodes = 0x800
	compatOrphanFile   = 0x1000
)

// Bits of s_feature_incompat: a program that does not know one must not read.
const (
	incompatCompression = 0x1
	incompatFiletype    = 0x2
	incompatRecover     = 0x4 // the journal has something to replay
	incompatJournalDev  = 0x8
	incompatMetaBG      = 0x10
	incompatExtents     = 0x40
	incompat64Bit       = 0x80
	incompatMMP         = 0x100
	incompatFlexBG      = 0x200
	incompatEAInode     = 0x400
	incompatDirdata     = 0x1000
	incompatCsumSeed    = 0x2000
	incompatLargedir    = 0x4000
	incompatInlineData  = 0x8000
	incompatEncrypt     = 0x10000
	incompatCasefold    = 0x20000
)

// Bits of s_feature_ro_compat: a program that does not know one must not write.
const (
	roCompatSparseSuper   = 0x1
	roCompatLargeFile     = 0x2
	roCompatHugeFile      = 0x8
	roCompatGDTCsum       = 0x10 // uninit_bg
	roCompatDirNlink      = 0x20
	roCompatExtraIsize    = 0x40
	roCompatSnapshot      = 0x80
	roCompatQuota         = 0x100
	roCompatBigalloc      = 0x200
	roCompatMetadataCsum  = 0x400
	roCompatReplica       = 0x800
	roCompatReadonly      = 0x1000
	roCompatProject       = 0x2000
	roCompatVerity        = 0x8000
	roCompatOrphanPresent = 0x10000
)

// featureName names one bit as mke2fs and dumpe2fs do.
type featureName struct {
	bit  uint32
	name string
}

var compatNames = []featureName{
	{compatDirPrealloc, "dir_prealloc"},
	{compatImagicInodes, "imagic_inodes"},
	{compatHasJournal, "has_journal"},
	{compatExtAttr, "ext_attr"},
	{compatResizeInode, "resize_inode"},
	{compatDirIndex, "dir_index"},
	{compatSparseSuper2, "sparse_super2"},
	{compatFastCommit, "fast_commit"},
	{compatStableInodes, "stable_inodes"},
	{compatOrphanFile, "orphan_file"},
}

var incompatNames = []featureName{
	{incompatCompression, "compression"},
	{incompatFiletype, "filetype"},
	{incompatRecover, "needs_recovery"},
	{incompatJournalDev, "journal_dev"},
	{incompatMetaBG, "meta_bg"},
	{incompatExtents, "extent"},
	{incompat64Bit, "64bit"},
	{incompatMMP, "mmp"},
	{incompatFlexBG, "flex_bg"},
	{incompatEAInode, "ea_inode"},
	{incompatDirdata, "dirdata"},
	{incompatCsumSeed, "metadata_csum_seed"},
	{incompatLargedir, "large_dir"},
	{incompatInlineData, "inline_data"},
	{incompatEncrypt, "encrypt"},
	{incompatCasefold, "casefold"},
}

var roCompatNames = []featureName{
	{roCompatSparseSuper, "sparse_super"},
	{roCompatLargeFile, "large_file"},
	{roCompatHugeFile, "huge_file"},
	{roCompatGDTCsum, "uninit_bg"},
	{roCompatDirNlink, "dir_nlink"},
	{roCompatExtraIsize, "extra_isize"},
	{roCompatSnapshot, "snapshot"},
	{roCompatQuota, "quota"},
	{roCompatBigalloc, "bigalloc"},
	{roCompatMetadataCsum, "metadata_csum"},
	{roCompatReplica, "replica"},
	{roCompatReadonly, "read-only"},
	{roCompatProject, "project"},
	{roCompatVerity, "verity"},
	{roCompatOrphanPresent, "orphan_present"},
}

// namesOf lists the features whose bits are set, in bit order; a bit without a
// name is given by its field and value.
func namesOf(field string, bits uint32, names []featureName) []string {
	var set []string
	for _, f := range names {
		if bits&f.bit != 0 {
			set = append(set, f.name)
			bits &^= f.bit
		}
	}
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if bits&bit != 0 {
			set = append(set, fmt.Sprintf("%s %#x", field, bit))
		}
	}
	return set
}
