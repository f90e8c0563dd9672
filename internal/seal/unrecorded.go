package seal

import (
	"crypto/sha256"
	"io"
	"strings"
)

// overhead is by how much a stream may grow when it is sealed: zstd's and gzip's frames
// add less than a thousandth to what can't be compressed, age 16 bytes to each 64 KiB.
const overhead = 1 << 20

// NewUnrecordedReader returns a Reader of a stream of which no Sum was recorded, because
// it is one of very many, with at most the given number of plain bytes. Damage is found
// by the decryption and by the frame of the compression, and what is cut off is never
// taken for whole; but without encryption anyone who can write can make such a stream.
// A caller that knows a hash of the plain bytes compares it.
func NewUnrecordedReader(src io.Reader, mostPlainBytes int64, o Options) (*Reader, error) {
	o.PlainHashed = true // there is no hash of the stored bytes to compare with
	r, err := NewReader(src, Sum{SHA256: strings.Repeat("0", 2*sha256.Size), StoredBytes: mostPlainBytes + mostPlainBytes/256 + overhead, PlainBytes: mostPlainBytes}, o)
	if err != nil {
		return nil, err
	}
	r.stored.unrecorded = true
	return r, nil
}
