package ext4

import "testing"

// TestDirHash compares hashes with those of debugfs's dx_hash.
func TestDirHash(t *testing.T) {
	const long = "a long file name that exceeds thirty-two bytes for sure.txt"
	seed := [4]uint32{0x67452301, 0xefcdab89, 0x67452301, 0xefcdab89} // 01234567-89ab-cdef-0123-456789abcdef
	for _, c := range []struct {
		name        string
		version     uint8
		seed        [4]uint32
		hash, minor uint32
	}{
		{"a", hashLegacy, [4]uint32{}, 0xe74b53e2, 0},
		{"hello", hashLegacy, [4]uint32{}, 0x32252546, 0},
		{long, hashLegacy, [4]uint32{}, 0x4be48974, 0},
		{"naïve", hashLegacy, [4]uint32{}, 0x442f7420, 0},
		{"a", hashHalfMD4, [4]uint32{}, 0xd5fa7d7a, 0xacb48187},
		{"hello", hashHalfMD4, [4]uint32{}, 0x1746da32, 0x420013b5},
		{long, hashHalfMD4, [4]uint32{}, 0xe065d486, 0xe2f8ee23},
		{"naïve", hashHalfMD4, [4]uint32{}, 0x1b42012a, 0xfcf9d17a},
		{"hello", hashHalfMD4, seed, 0xa26e4a80, 0x97e5b7f7},
		{"a", hashTEA, [4]uint32{}, 0x6d0ea4c0, 0xc18922df},
		{"hello", hashTEA, [4]uint32{}, 0x6f5bb1a8, 0x231917c2},
		{long, hashTEA, [4]uint32{}, 0x6fcc0748, 0x8c610a81},
		{"naïve", hashTEA, [4]uint32{}, 0x784c5732, 0x901303be},
		{"hello", hashHalfMD4Unsigned, [4]uint32{}, 0x1746da32, 0x420013b5},
	} {
		hash, minor, ok := dirHash(c.name, c.version, c.seed)
		if !ok || hash != c.hash || minor != c.minor {
			t.Errorf("dirHash(%q, %d) = %#08x, %#08x, %v, want %#08x, %#08x", c.name, c.version, hash, minor, ok, c.hash, c.minor)
		}
	}
	if _, _, ok := dirHash("a", 6, [4]uint32{}); ok {
		t.Error("dirHash knows version 6")
	}
}
