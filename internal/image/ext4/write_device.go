package ext4

import "fmt"

// signatureArea is how many bytes at the end of a device are cleared, where RAID and partition
// tables have their superblocks. mke2fs clears the same (misc/mke2fs.c).
const signatureArea = 64 << 10

// prepare sets the length of the target, or clears the old file system of a device.
func (w *imageWriter) prepare() error {
	if w.p.o.Device {
		return w.clearDevice()
	}
	for _, size := range []int64{0, w.l.imageSize} {
		if err := w.target.Truncate(size); err != nil {
			return fmt.Errorf("set the image's length to %d: %w", size, err)
		}
	}
	return nil
}

// clearDevice removes the previous superblock, so that a partly written device is not taken for the
// previous file system, and the superblocks of other formats at the end. The kernel does not read
// other blocks before they are written: the unused parts of the inode tables are marked as not
// zeroed.
func (w *imageWriter) clearDevice() error {
	zeros := make([]byte, min(signatureArea, w.l.imageSize))
	for _, at := range []int64{0, w.l.imageSize - int64(len(zeros))} {
		if _, err := w.target.WriteAt(zeros, at); err != nil {
			return fmt.Errorf("clear %d bytes at %d: %w", len(zeros), at, err)
		}
	}
	return nil
}

// clearJournal writes zeros to the journal of a device: blocks of an older journal could otherwise
// be replayed.
func (w *imageWriter) clearJournal() error {
	for _, e := range w.p.journal.extents {
		for at, left := e.Start, uint64(e.Len); left > 0; {
			if err := w.ctx.Err(); err != nil {
				return err
			}
			count := min(left, w.out.chunkBlocks())
			b, err := w.out.next(at, count)
			if err != nil {
				return err
			}
			clear(b)
			at, left = at+count, left-count
		}
	}
	return nil
}
