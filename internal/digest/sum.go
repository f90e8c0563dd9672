// Package digest computes sums of a database's values by which a restored copy
// is compared with what was backed up: row by row, whatever order the rows come in.
//
// A Sum is not for security: anyone who knows the rows can compute it, so a sum of
// few possible rows gives them away. Sums are stored sealed, as rows are.
package digest

import (
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Sum is the sum, modulo 2^128, of the XXH3 hashes of 128 bits of any number of
// rows. Rows that come twice count twice. Equal sums mean equal rows, but for a
// chance of about one in 2^128. The zero Sum is that of no rows.
type Sum struct{ hi, lo uint64 }

// Add adds the rows of another sum.
func (s *Sum) Add(o Sum) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, o.lo, 0)
	s.hi, _ = bits.Add64(s.hi, o.hi, carry)
}

func (s *Sum) addHash(h xxh3.Uint128) { s.Add(Sum{hi: h.Hi, lo: h.Lo}) }

// String returns the sum as 32 hex digits.
func (s Sum) String() string { return fmt.Sprintf("%016x%016x", s.hi, s.lo) }

// MarshalText implements encoding.TextMarshaler.
func (s Sum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Sum) UnmarshalText(text []byte) error {
	var b [16]byte
	if n, err := hex.Decode(b[:], text[:min(len(text), 2*len(b))]); err != nil || n != len(b) || len(text) != 2*len(b) {
		return fmt.Errorf("a sum has 32 hex digits, not %d characters of this kind", len(text))
	}
	*s = Sum{}
	for i := range 8 {
		s.hi, s.lo = s.hi<<8|uint64(b[i]), s.lo<<8|uint64(b[8+i])
	}
	return nil
}
