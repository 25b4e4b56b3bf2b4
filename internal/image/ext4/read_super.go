package ext4

import "time"

// Super has the properties of a file system from its superblock.
type Super struct {
	Label         string
	UUID          [16]byte
	BlockSize     int    // bytes
	Blocks        uint64 // of BlockSize
	FreeBlocks    uint64
	Inodes        uint32
	FreeInodes    uint32
	InodeSize     int       // bytes
	Groups        int       // block groups
	JournalBlocks uint64    // 0 without a journal
	Features      []string  // named as mke2fs and dumpe2fs name them
	Created       time.Time // by mkfs; zero if unknown
	Written       time.Time // last written to

	// NeedsRecovery means that the journal must be replayed: the file system was not unmounted.
	NeedsRecovery bool
	// Clean means that the file system was unmounted, without detected errors.
	Clean bool
}

// Super summarises the superblock.
func (f *FS) Super() Super {
	sb := &f.sb
	features := namesOf("compat", sb.FeatureCompat, compatNames)
	features = append(features, namesOf("incompat", sb.FeatureIncompat, incompatNames)...)
	features = append(features, namesOf("ro_compat", sb.FeatureROCompat, roCompatNames)...)
	s := Super{
		Label: cString(sb.VolumeName[:]), UUID: sb.UUID,
		BlockSize: f.blockSize, Blocks: f.blocks, FreeBlocks: sb.freeBlocksCount(),
		Inodes: sb.InodesCount, FreeInodes: sb.FreeInodesCount, InodeSize: f.inodeSize,
		Groups: len(f.groups), Features: features,
		Created: superTime(sb.MkfsTime, sb.MkfsTimeHi), Written: superTime(sb.Wtime, sb.WtimeHi),
		NeedsRecovery: sb.FeatureIncompat&incompatRecover != 0,
	}
	s.Clean = !s.NeedsRecovery && sb.State&(stateValid|stateErrors) == stateValid
	if sb.FeatureCompat&compatHasJournal != 0 && sb.JournalInum != 0 {
		if nd, err := f.node(sb.JournalInum); err == nil {
			s.JournalBlocks = nd.Size / uint64(f.blockSize)
		}
	}
	return s
}

// superTime joins a time of the superblock, which has 40 bits.
func superTime(lo uint32, hi uint8) time.Time {
	if lo == 0 && hi == 0 {
		return time.Time{}
	}
	return time.Unix(int64(hi)<<32|int64(lo), 0).UTC()
}
