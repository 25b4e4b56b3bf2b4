package chunk_test

import (
	"bytes"
	"fmt"
	"log"
	"math/rand/v2"

	"github.com/sovereign-sql/sov/internal/chunk"
)

// What a new version has in common with an old one is found wherever it has moved to.
func ExampleEach() {
	old := make([]byte, 100_000)
	random := rand.NewChaCha8([32]byte{})
	random.Read(old)
	changed := append([]byte("a line at the beginning\n"), old...)

	known := map[chunk.Sum]bool{}
	err := chunk.Each(bytes.NewReader(old), func(c chunk.Chunk, _ []byte) error {
		known[c.Sum] = true
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	count, send := 0, 0
	err = chunk.Each(bytes.NewReader(changed), func(c chunk.Chunk, _ []byte) error {
		count++
		if !known[c.Sum] {
			send++
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d of %d chunks have to be sent\n", send, count)
	// Output: 1 of 21 chunks have to be sent
}
