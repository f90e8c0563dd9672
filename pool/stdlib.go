package pool

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"github.com/jackc/pgx/v5/stdlib"
)

// Stdlib returns a database/sql handle over the same connections to the primary,
// for code that needs one. Its limits are the pool's: set none on the handle.
// Waiting for a connection is bounded by the acquire timeout. Statements are
// timed, logged and bounded as all others, but never retried, and after a
// failover new ones go to the new primary. Shutdown ends it; closing the handle
// leaves the pool open.
func (db *DB) Stdlib() *sql.DB {
	handle := sql.OpenDB(connector{db})
	// An idle connection of database/sql would be a used one of the pool.
	handle.SetMaxIdleConns(0)
	return handle
}

// connector gives database/sql connections of the present primary.
type connector struct{ db *DB }

// Connect takes a connection for database/sql, which releases it by closing it.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	e, err := c.db.writable()
	if err != nil {
		return nil, err
	}
	return e.stdlibConn(ctx)
}

// Driver is pgx's.
func (c connector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }
