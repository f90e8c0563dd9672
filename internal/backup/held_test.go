package backup_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestNotHeld changes behind a backup what no lock on a table prevents: each time
// rows could be read from another table, as none, or not be those of the snapshot.
func TestNotHeld(t *testing.T) {
	for _, tt := range []struct {
		name, words string
		kind        pgmedic.Kind
		sql         string
	}{
		{"a schema trades places", "renamed, replaced or rewritten while the backup ran", pgmedic.KindConflict,
			"BEGIN; ALTER SCHEMA app RENAME TO app_old; CREATE SCHEMA app; CREATE TABLE app.t (x int); COMMIT"},
		{"the snapshot ends", "the session that held the snapshot has ended", pgmedic.KindUnreachable,
			`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND state = 'idle in transaction' AND query NOT LIKE '%set_config%' AND pid <> pg_backend_pid()`},
	} {
		for name, method := range fixture.Methods(t, 1) {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				dsn := filled(t, server)
				fixture.Exec(t, dsn, "CREATE SCHEMA app", "CREATE TABLE app.t AS SELECT generate_series(1, 1000) AS x")
				var once sync.Once
				o := fixture.BackupOptions(t, dsn, catalog.New(&fixture.Faulty{
					Store: fixture.NewCatalog(t).Store(),
					OnPut: func(_ context.Context, key string, r io.Reader) io.Reader {
						if !strings.HasSuffix(key, "/dump.sql") && !strings.HasSuffix(key, "/schema.dump") {
							return nil
						}
						return fixture.At(r, 0, func() {
							once.Do(func() { fixture.Psql(t, server, fixture.Target(t, dsn).Database(), tt.sql+";") })
						})
					},
				}))
				o.Seal = seal.Options{Compression: seal.CompressionNone}
				o.Method = method
				b, err := backup.Take(t.Context(), o)
				wantFailed(t, o, b, err, tt.kind, tt.words)
			})
		}
	}
}
