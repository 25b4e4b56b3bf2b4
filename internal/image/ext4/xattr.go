package ext4

// xattrHash is e_hash of an attribute: over its name without prefix and the words of its value, or
// the single word for a value in its own inode.
func xattrHash(suffix []byte, words []uint32, unsigned bool) uint32 {
	const nameShift, valueShift = 5, 16 // NAME_HASH_SHIFT, VALUE_HASH_SHIFT
	var hash uint32
	for _, c := range suffix {
		hash = hash<<nameShift ^ hash>>(32-nameShift) ^ hashChar(c, unsigned)
	}
	for _, word := range words {
		hash = hash<<valueShift ^ hash>>(32-valueShift) ^ word
	}
	return hash
}

// xattrWords gives a value as little-endian words, the last filled with zeros.
func xattrWords(value []byte) []uint32 {
	words := make([]uint32, (len(value)+3)/4)
	for i, c := range value {
		words[i/4] |= uint32(c) << (i % 4 * 8)
	}
	return words
}
