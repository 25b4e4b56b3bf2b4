package ext4

import "math/bits"

// Hash versions of hashed directories (s_def_hash_version, dx_root_info). The disk has the first
// three; s_flags tells the signedness of chars, and the unsigned versions are larger by
// unsignedHashDelta.
const (
	hashLegacy          = 0
	hashHalfMD4         = 1
	hashTEA             = 2
	hashLegacyUnsigned  = 3
	hashHalfMD4Unsigned = 4
	hashTEAUnsigned     = 5

	unsignedHashDelta = 3
)

// hashEOF is the hash that directory positions need for "no more entries".
const hashEOF = 0x7FFFFFFF << 1

// dirHash gives the hash of a name and the minor hash that orders names of
// equal hash, with s_hash_seed as its seed (all zero: the default one). It
// reports false for a version it does not know.
func dirHash(name string, version uint8, seed [4]uint32) (hash, minor uint32, ok bool) {
	unsigned := version >= unsignedHashDelta
	if seed == [4]uint32{} {
		seed = [4]uint32{0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476}
	}
	switch version {
	case hashLegacy, hashLegacyUnsigned:
		hash = legacyHash(name, unsigned)
	case hashHalfMD4, hashHalfMD4Unsigned:
		var in [8]uint32
		for ; len(name) > 0; name = name[min(len(name), 32):] {
			hashWords(name, in[:], unsigned)
			halfMD4(&seed, &in)
		}
		hash, minor = seed[1], seed[2]
	case hashTEA, hashTEAUnsigned:
		var in [4]uint32
		for ; len(name) > 0; name = name[min(len(name), 16):] {
			hashWords(name, in[:], unsigned)
			tea(&seed, &in)
		}
		hash, minor = seed[0], seed[1]
	default:
		return 0, 0, false
	}
	hash &^= 1 // the index uses the lowest bit to say that a hash goes on in the next block
	if hash == hashEOF {
		hash -= 2
	}
	return hash, minor, true
}

// hashChar extends a char with the signedness of the machine that made the directory.
func hashChar(c byte, unsigned bool) uint32 {
	if unsigned {
		return uint32(c)
	}
	return uint32(int32(int8(c)))
}

// legacyHash is dx_hack_hash.
func legacyHash(name string, unsigned bool) uint32 {
	hash0, hash1 := uint32(0x12A3FE2D), uint32(0x37ABE8F9)
	for i := range len(name) {
		hash := hash1 + (hash0 ^ hashChar(name[i], unsigned)*7152373)
		if hash&0x80000000 != 0 {
			hash -= 0x7FFFFFFF
		}
		hash1, hash0 = hash0, hash
	}
	return hash0 << 1
}

// hashWords fills words with the name, four chars each, and what is left with
// a pattern of the name's length (str2hashbuf).
func hashWords(name string, words []uint32, unsigned bool) {
	pad := uint32(len(name)) | uint32(len(name))<<8
	pad |= pad << 16
	for w := range words {
		val := pad
		for i := w * 4; i < w*4+4 && i < len(name); i++ {
			val = hashChar(name[i], unsigned) + val<<8
		}
		words[w] = val
	}
}

// tea mixes four words into the first two of buf by sixteen rounds of the
// Tiny Encryption Algorithm.
func tea(buf *[4]uint32, in *[4]uint32) {
	const delta = 0x9E3779B9
	var sum uint32
	b0, b1 := buf[0], buf[1]
	for range 16 {
		sum += delta
		b0 += (b1<<4 + in[0]) ^ (b1 + sum) ^ (b1>>5 + in[1])
		b1 += (b0<<4 + in[2]) ^ (b0 + sum) ^ (b0>>5 + in[3])
	}
	buf[0] += b0
	buf[1] += b1
}

// halfMD4 mixes eight words into buf by MD4's functions over half its input.
func halfMD4(buf *[4]uint32, in *[8]uint32) {
	const k2, k3 = 0x5A827999, 0x6ED9EBA1 // MD4's constants of rounds 2 and 3
	type step struct{ word, shift int }
	a, b, c, d := buf[0], buf[1], buf[2], buf[3]

	for _, s := range [8]step{{0, 3}, {1, 7}, {2, 11}, {3, 19}, {4, 3}, {5, 7}, {6, 11}, {7, 19}} {
		f := d ^ b&(c^d)
		a, b, c, d = d, bits.RotateLeft32(a+f+in[s.word], s.shift), b, c
	}
	for _, s := range [8]step{{1, 3}, {3, 5}, {5, 9}, {7, 13}, {0, 3}, {2, 5}, {4, 9}, {6, 13}} {
		g := b&c + (b^c)&d
		a, b, c, d = d, bits.RotateLeft32(a+g+in[s.word]+k2, s.shift), b, c
	}
	for _, s := range [8]step{{3, 3}, {7, 9}, {2, 11}, {6, 15}, {1, 3}, {5, 9}, {0, 11}, {4, 15}} {
		h := b ^ c ^ d
		a, b, c, d = d, bits.RotateLeft32(a+h+in[s.word]+k3, s.shift), b, c
	}
	buf[0] += a
	buf[1] += b
	buf[2] += c
	buf[3] += d
}
