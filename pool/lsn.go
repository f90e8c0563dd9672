package pool

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the write-ahead log. The zero LSN is before all others
// and means that none is known.
type LSN uint64

// ParseLSN reads an LSN as PostgreSQL writes it, such as 16/B374D848.
func ParseLSN(text string) (LSN, error) {
	high, low, found := strings.Cut(text, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	if err == nil && found {
		var l uint64
		if l, err = strconv.ParseUint(low, 16, 32); err == nil {
			return LSN(h<<32 | l), nil
		}
	}
	return 0, fmt.Errorf("%.40q is not an LSN, such as 16/B374D848", text)
}

// String returns the LSN as PostgreSQL writes it.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }
