package snapshot

import (
	"context"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// LargeObjectWriter takes large objects, one after the other: Begin, the content in
// any number of writes, End.
type LargeObjectWriter interface {
	Begin(oid uint32)
	io.Writer
	End()
}

// ReadLargeObjects gives every large object of conn's database to w, in the order of
// their OIDs. A hole reads as zeros, as it does through lo_read.
func ReadLargeObjects(ctx context.Context, conn *pgx.Conn, w LargeObjectWriter) error {
	oids, err := postgres.CollectScalar[uint32](ctx, conn, "SELECT oid FROM pg_catalog.pg_largeobject_metadata ORDER BY oid")
	if err != nil || len(oids) == 0 {
		return postgres.Wrap(err, "list the large objects")
	}
	err = readPages(ctx, conn, oids, w)
	if postgres.Code(err) == "42501" { // only a superuser may read the catalogue itself; nothing was written yet
		err = readOneByOne(ctx, conn, oids, w)
	}
	return postgres.Wrap(err, "read the large objects")
}

// readPages reads the catalogue of the objects' pages.
func readPages(ctx context.Context, conn *pgx.Conn, oids []uint32, w LargeObjectWriter) error {
	var blockSize int64
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('block_size')::int8").Scan(&blockSize); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, "SELECT loid, pageno, data FROM pg_catalog.pg_largeobject ORDER BY loid, pageno")
	if err != nil {
		return err
	}
	var oid uint32
	var page int64
	var data []byte
	written, begun := int64(0), false
	_, err = pgx.ForEachRow(rows, []any{&oid, &page, &data}, func() error {
		for len(oids) > 0 && (!begun || oids[0] != oid) { // ends those before it, the empty ones too
			if !begun {
				w.Begin(oids[0])
				begun, written = true, 0
				continue
			}
			w.End()
			begun, oids = false, oids[1:]
		}
		if hole := page*blockSize/4 - written; hole > 0 { // LOBLKSIZE is a quarter of a block
			if _, err := io.CopyN(w, zeros{}, hole); err != nil {
				return err
			}
			written += hole
		}
		n, err := w.Write(data)
		written += int64(n)
		return err
	})
	if err != nil {
		return err
	}
	for len(oids) > 0 {
		if !begun {
			w.Begin(oids[0])
		}
		w.End()
		begun, oids = false, oids[1:]
	}
	return nil
}

func readOneByOne(ctx context.Context, conn *pgx.Conn, oids []uint32, w LargeObjectWriter) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		objects := tx.LargeObjects()
		for _, oid := range oids {
			object, err := objects.Open(ctx, oid, pgx.LargeObjectModeRead)
			if err != nil {
				return err
			}
			w.Begin(oid)
			if _, err := io.CopyBuffer(w, onlyReader{object}, make([]byte, 256<<10)); err != nil {
				return err
			}
			w.End()
			if err := object.Close(); err != nil {
				return err
			}
		}
		return nil
	})
}

// onlyReader hides the shortcuts of a reader.
type onlyReader struct{ io.Reader }

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
