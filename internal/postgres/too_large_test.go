package postgres_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// TestTooLargeForText tells a value that is too large for COPY's text from a length
// that is damaged, whatever language the server speaks.
func TestTooLargeForText(t *testing.T) {
	for name, test := range map[string]struct {
		err  pgconn.PgError
		want bool
	}{
		"600 MB in hex":    {pgconn.PgError{Code: "XX000", Routine: "palloc", Message: "invalid memory alloc request size 1258291203"}, true},
		"from 17 on":       {pgconn.PgError{Code: "XX000", Routine: "MemoryContextSizeFailure", Message: "invalid memory alloc request size 1258291203"}, true},
		"in words":         {pgconn.PgError{Code: "XX000", Routine: "repalloc", Message: "Größe ungültig: 2147483651"}, true},
		"a buffer":         {pgconn.PgError{Code: "54000", Routine: "enlargeStringInfo", Message: "Speicher aufgebraucht"}, true},
		"a damaged length": {pgconn.PgError{Code: "XX000", Routine: "palloc", Message: "invalid memory alloc request size 18446744073709551613"}, false},
		"a small one":      {pgconn.PgError{Code: "XX000", Routine: "palloc", Message: "invalid memory alloc request size 1024"}, false},
		"another function": {pgconn.PgError{Code: "XX000", Routine: "mdread", Message: "block 1258291203"}, false},
		"no number":        {pgconn.PgError{Code: "XX000", Routine: "palloc", Message: "none"}, false},
		"nothing":          {pgconn.PgError{Code: "XX000", Routine: "palloc"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var server *postgres.ServerError
			if err := postgres.Wrap(&test.err, "copy a table"); !errors.As(err, &server) || server.TooLarge != test.want {
				t.Errorf("too large %t, want %t: %v", server.TooLarge, test.want, err)
			}
		})
	}
}
