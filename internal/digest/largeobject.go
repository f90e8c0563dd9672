package digest

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"
)

// LargeObject sums large objects, one after the other.
type LargeObject struct {
	total  LargeObjects
	hasher *xxh3.Hasher
}

// Begin begins the next large object.
func (l *LargeObject) Begin(oid uint32) {
	if l.hasher == nil {
		l.hasher = xxh3.New()
	}
	l.hasher.Reset()
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], oid)
	_, _ = l.hasher.Write(b[:]) // never fails
}

// Write takes the next part of the content. It never fails.
func (l *LargeObject) Write(p []byte) (int, error) { return l.hasher.Write(p) }

// End ends the large object.
func (l *LargeObject) End() {
	l.total.Count++
	l.total.Sum.addHash(l.hasher.Sum128())
}

// Total returns the sum of all that have ended.
func (l *LargeObject) Total() LargeObjects { return l.total }
