package restore

import (
	"cmp"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// piece is what one connection loads at a time: one chunk, or all chunks of a table.
type piece struct {
	chunks []pgmedic.Chunk
	bytes  int64
	// table is the table whose rows the chunks are, all of them and no others; or -1.
	table int
}

// worthFreezing is the size in bytes from which a table is loaded whole. Below it, the new
// file that TRUNCATE makes would cost more than frozen rows save.
const worthFreezing = 1 << 20

// pieces cuts the chunks of a backup into what is loaded at a time, the largest
// first. A table that one connection loads whole has its rows written as frozen,
// which saves the next reader of each page, the one that builds an index, from
// writing it again. One that is so large that the other connections would wait for
// it is loaded by all of them, chunk by chunk.
func pieces(b *pgmedic.Backup, jobs int) []piece {
	bytes, shared := map[int]int64{}, map[int]bool{} // of tables
	total := int64(0)
	for _, c := range b.Chunks {
		total += c.PlainBytes
		for _, p := range c.Parts {
			bytes[p.Table] += p.PlainBytes
			shared[p.Table] = shared[p.Table] || len(c.Parts) > 1
		}
	}
	// It would take more than one and a half times each connection's share.
	tooLarge := total / int64(jobs) * 3 / 2
	whole := map[int]*piece{}
	var all []piece
	for _, c := range b.Chunks {
		t := -1
		if len(c.Parts) > 0 {
			t = c.Parts[0].Table
		}
		if t < 0 || shared[t] || bytes[t] < worthFreezing || jobs > 1 && bytes[t] > tooLarge {
			all = append(all, piece{chunks: []pgmedic.Chunk{c}, bytes: c.PlainBytes, table: -1})
			continue
		}
		if whole[t] == nil {
			whole[t] = &piece{table: t}
		}
		whole[t].chunks = append(whole[t].chunks, c)
		whole[t].bytes += c.PlainBytes
	}
	for _, p := range whole {
		all = append(all, *p)
	}
	slices.SortStableFunc(all, func(x, y piece) int {
		return cmp.Or(cmp.Compare(y.bytes, x.bytes), cmp.Compare(x.chunks[0].Pack, y.chunks[0].Pack), cmp.Compare(x.chunks[0].Offset, y.chunks[0].Offset))
	})
	return all
}

// frozen loads a table whole, in one transaction, with its rows frozen. It reports
// false where that can't be, and then nothing is there: the chunks have to be loaded
// one by one.
func (l *ChunkLoader) frozen(ctx context.Context, conn *pgx.Conn, p piece) (done bool, err error) {
	t := l.source.Backup.Tables[p.table]
	name := sqltext.QuoteQualified(t.Schema, t.Name)
	passed := &passing{to: l.meter}
	err = inTransaction(ctx, conn, func() error {
		// Only a table that this transaction made, or emptied, takes frozen rows.
		if _, err := conn.Exec(ctx, "TRUNCATE ONLY "+name); err != nil {
			return postgres.Wrap(err, "prepare to load table "+name)
		}
		for _, c := range p.chunks {
			if err := l.copyChunk(ctx, conn, c, []string{name}, passed, snapshot.CopyInFrozenSQL); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return true, nil
	}
	passed.takeBack()
	if postgres.RefusedContent(err) && !conn.IsClosed() {
		return false, nil // of a row, or of the TRUNCATE itself: each chunk says which
	}
	return false, err
}
