package history

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"

	"modernc.org/sqlite"

	"github.com/pgmedic/pgmedic"
)

const (
	// applicationID marks the file as ours ("pgmh").
	applicationID = 0x70676d68
	// schemaVersion is the version of the schema that this program writes.
	schemaVersion = 1
)

// schema is the whole schema. A reading's outline is what is read in bulk, its
// detail (see monitor.Detailed) what is read of some; all are JSON, compressed by
// zstd. The detail is for speed: it is also in the whole reading. Times are in
// microseconds since 1970, UTC.
const schema = `
CREATE TABLE series (
	id INTEGER PRIMARY KEY,
	node TEXT NOT NULL,
	system TEXT NOT NULL,
	database TEXT NOT NULL,
	thinned_at INTEGER NOT NULL DEFAULT 0,
	UNIQUE (node, system, database)
) STRICT;
CREATE TABLE reading (
	id INTEGER PRIMARY KEY,
	series INTEGER NOT NULL,
	taken_at INTEGER NOT NULL,
	outline BLOB NOT NULL,
	UNIQUE (series, taken_at)
) STRICT;
CREATE TABLE whole (
	id INTEGER PRIMARY KEY,
	detail BLOB NOT NULL,
	reading BLOB NOT NULL
) STRICT;
PRAGMA application_id = 0x70676d68;
PRAGMA user_version = 1;`

// checkSchema sees that the file is a history of this version, and makes an
// empty one into one.
func (h *History) checkSchema(ctx context.Context) error {
	application, version, tables, err := h.identity(ctx, h.db)
	if err != nil {
		return err
	}
	switch {
	case application == applicationID && version > schemaVersion:
		return pgmedic.Errorf(pgmedic.KindUsage, "upgrade pgmedic, or name another file with report.history",
			"the history %s was written by a newer version", h.opts.Path)
	case application == applicationID && version == schemaVersion:
		return h.checkTables(ctx)
	case application == applicationID:
		return errBroken
	case tables > 0 || application != 0:
		return pgmedic.Errorf(pgmedic.KindUsage, "name another file with report.history, or off",
			"%s is another program's database and no history", h.opts.Path)
	case h.opts.ReadOnly:
		return fs.ErrNotExist
	}
	return h.makeSchema(ctx)
}

// identity says whose file it is.
func (h *History) identity(ctx context.Context, from interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) (application, version, tables int, err error) {
	err = from.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
		(SELECT count(*) FROM sqlite_schema)`).Scan(&application, &version, &tables)
	return application, version, tables, err
}

// makeSchema makes the tables, unless another report was faster.
func (h *History) makeSchema(ctx context.Context) error {
	return h.transact(ctx, func(tx *sql.Tx) error {
		_, _, tables, err := h.identity(ctx, tx)
		if err == nil && tables == 0 {
			_, err = tx.ExecContext(ctx, schema)
		}
		return err
	})
}

// checkTables sees that the tables are as they should be.
func (h *History) checkTables(ctx context.Context) error {
	rows, err := h.db.QueryContext(ctx, `SELECT s.id, s.node, s.system, s.database, s.thinned_at, r.id, r.series, r.taken_at, r.outline, w.detail, w.reading
		FROM series s JOIN reading r ON r.series = s.id JOIN whole w ON w.id = r.id LIMIT 0`)
	if err == nil {
		defer func() { _ = rows.Close() }()
		return rows.Err()
	}
	const generic = 1 // SQLITE_ERROR: no such table, no such column
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code() == generic {
		return errBroken
	}
	return err
}

// transact does something whole or not at all.
func (h *History) transact(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		// What undoing says is not news beside why.
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}
