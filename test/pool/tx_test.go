package pool_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmedic/pgmedic/pool"
)

// TestRowsAfterTheirTransaction: the error of rows can be asked for when their
// transaction has ended and its connection is another's.
func TestRowsAfterTheirTransaction(t *testing.T) {
	t.Parallel()
	db := open(t, pool.Config{})
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), "SELECT 1/(3-n) FROM generate_series(1, 5) n")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() { //nolint:revive // to its end
	}
	if err := tx.Rollback(t.Context()); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		t.Error(err)
	}
	var wrong *pgconn.PgError
	if err := rows.Err(); !errors.As(err, &wrong) || wrong.Code != "22012" {
		t.Errorf("%v", err)
	}
}
