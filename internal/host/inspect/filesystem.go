package inspect

import (
	"fmt"

	"github.com/sovereign-sql/sov/internal/image/ext4"
)

// A FileSystem has the fields of a superblock.
type FileSystem struct {
	Label     string   `json:"label"`
	UUID      string   `json:"uuid"`
	BlockSize int      `json:"block_size"` // bytes
	Size      int64    `json:"size"`       // bytes
	Free      int64    `json:"free"`       // bytes
	Inodes    uint32   `json:"inodes"`
	FreeInode uint32   `json:"free_inodes"`
	Features  []string `json:"features"`
}

// Super describes a file system by its superblock.
func Super(filesystem *ext4.FS) FileSystem {
	s := filesystem.Super()
	return FileSystem{
		Label: s.Label, UUID: uuidString(s.UUID), BlockSize: s.BlockSize,
		Size: int64(s.Blocks) * int64(s.BlockSize), Free: int64(s.FreeBlocks) * int64(s.BlockSize),
		Inodes: s.Inodes, FreeInode: s.FreeInodes, Features: s.Features,
	}
}

// uuidString formats a UUID as in RFC 9562.
func uuidString(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}
