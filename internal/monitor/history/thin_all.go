package history

import (
	"context"
	"database/sql"

	"github.com/pgmedic/pgmedic"
)

// Superfluous returns how many Readings Thin would drop now, of all series.
func (h *History) Superfluous(ctx context.Context) (n int, err error) {
	err = h.mended(ctx, "read", func() error {
		// Of one moment, and without keeping anybody from reading.
		tx, err := h.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		n = 0
		return eachSeries(ctx, tx, func(series int64) error {
			_, all, err := moments(ctx, tx, "WHERE series = ?", series)
			n += len(Thin(h.opts.Now(), all))
			return err
		})
	})
	return n, err
}

// ThinAll thins all series, those too to which nothing is added any more, and returns how
// many Readings it dropped.
func (h *History) ThinAll(ctx context.Context) (n int, err error) {
	if h.opts.ReadOnly {
		return 0, pgmedic.Errorf(pgmedic.KindUsage, "", "the history %s is open for reading", h.opts.Path)
	}
	err = h.mended(ctx, "thin", func() error {
		return h.transact(ctx, func(tx *sql.Tx) error {
			before, after := 0, 0
			if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM reading").Scan(&before); err != nil {
				return err
			}
			if err := eachSeries(ctx, tx, func(series int64) error { return h.thinSeries(ctx, tx, series) }); err != nil {
				return err
			}
			if err := h.makeRoom(ctx, tx); err != nil {
				return err
			}
			err := tx.QueryRowContext(ctx, "SELECT count(*) FROM reading").Scan(&after)
			n = before - after
			return err
		})
	})
	return n, err
}

// eachSeries calls do with the id of each series.
func eachSeries(ctx context.Context, tx *sql.Tx, do func(series int64) error) error {
	ids, err := seriesIDs(ctx, tx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := do(id); err != nil {
			return err
		}
	}
	return nil
}

// seriesIDs reads all of them before anything else is asked: there is one connection.
func seriesIDs(ctx context.Context, tx *sql.Tx) (ids []int64, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT id FROM series ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
