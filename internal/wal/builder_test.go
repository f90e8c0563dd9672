package wal_test

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// builder writes WAL as a server does, from the start of a segment on.
type builder struct {
	size     wal.SegmentSize
	timeline wal.Timeline
	magic    uint16
	system   uint64
	start    wal.LSN
	prev     wal.LSN
	b        []byte
	// left is what the current record has yet to write, and flags are for the next page.
	left  int
	flags uint16
}

func newBuilder(start wal.LSN) *builder {
	return &builder{size: wal.MinSegmentSize, timeline: 1, magic: 0xD110, system: 4711, start: start}
}

func (b *builder) pos() wal.LSN { return b.start + wal.LSN(len(b.b)) }

func (b *builder) header() {
	le := binary.LittleEndian
	at, flags := b.pos(), b.flags
	b.flags = 0
	head := make([]byte, 24, 40)
	if b.size.Start(at) == at {
		flags |= 2
		head = head[:40]
		le.PutUint64(head[24:], b.system)
		le.PutUint32(head[32:], uint32(b.size))
		le.PutUint32(head[36:], wal.PageSize)
	}
	if b.left > 0 {
		flags |= 1
		le.PutUint32(head[16:], uint32(b.left))
	}
	le.PutUint16(head, b.magic)
	le.PutUint16(head[2:], flags)
	le.PutUint32(head[4:], uint32(b.timeline))
	le.PutUint64(head[8:], uint64(at))
	b.b = append(b.b, head...)
}

// put writes the bytes of a record, or padding.
func (b *builder) put(p []byte) {
	for len(p) > 0 {
		if b.pos()%wal.PageSize == 0 {
			b.header()
		}
		n := min(len(p), wal.PageSize-int(b.pos()%wal.PageSize))
		b.b, p = append(b.b, p[:n]...), p[n:]
		b.left = max(0, b.left-n)
	}
}

// record writes a record with data of its own, and returns where it begins.
func (b *builder) record(resource, info byte, xid uint32, data []byte) wal.LSN {
	le := binary.LittleEndian
	body := []byte{255, byte(len(data))}
	if len(data) > 255 {
		body = le.AppendUint32([]byte{254}, uint32(len(data)))
	}
	if len(data) == 0 {
		body = nil
	}
	body = append(body, data...)
	if b.pos()%wal.PageSize == 0 {
		b.header()
	}
	head := make([]byte, 24)
	le.PutUint32(head, uint32(24+len(body)))
	le.PutUint32(head[4:], xid)
	le.PutUint64(head[8:], uint64(b.prev))
	head[16], head[17] = info, resource
	table := crc32.MakeTable(crc32.Castagnoli)
	le.PutUint32(head[20:], crc32.Update(crc32.Update(0, table, body), table, head[:20]))
	at := b.pos()
	b.left = len(head) + len(body)
	b.put(slices.Concat(head, body))
	b.left, b.prev = 0, at
	b.b = append(b.b, make([]byte, b.pos().Align()-b.pos())...)
	return at
}

// commit writes the end of a transaction.
func (b *builder) commit(info byte, xid uint32, microseconds int64) wal.LSN {
	return b.record(1, info, xid, binary.LittleEndian.AppendUint64(nil, uint64(microseconds)))
}

// prevEnd is where the last record ends, a commit.
func (b *builder) prevEnd() wal.LSN { return (b.prev + 24 + 2 + 8).Align() }

// fill writes zeros up to the end of the segment.
func (b *builder) fill() []byte {
	end := b.size.Start(b.pos() + wal.LSN(b.size) - 1)
	b.b = append(b.b, make([]byte, end-b.pos())...)
	return b.b
}
