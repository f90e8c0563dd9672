package drill_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestWhatSettingsDecide drills databases in which settings of the database, of
// its server and of the role decide what values, keys and definitions are, and
// compares what a restore computes again.
func TestWhatSettingsDecide(t *testing.T) {
	tokyo := scratchtest.New(t, scratch.Options{Settings: map[string]string{"timezone": "Asia/Tokyo", "datestyle": "SQL, DMY"}})
	localDays := []string{
		"CREATE FUNCTION day_of(timestamptz) RETURNS date LANGUAGE sql IMMUTABLE AS 'SELECT $1::date'",
		"CREATE TABLE visits (id int PRIMARY KEY, at timestamptz, day date GENERATED ALWAYS AS (day_of(at)) STORED)",
		"INSERT INTO visits SELECT n, timestamptz '2026-01-01 00:00:00+00' + n * interval '3 hours' FROM generate_series(1, 200) AS n",
		"CREATE INDEX ON visits (day_of(at))", "CREATE UNIQUE INDEX ON visits (id, day_of(at))",
		"CREATE MATERIALIZED VIEW days AS SELECT at::date AS day, count(*) AS n FROM visits GROUP BY 1",
		"CREATE TABLE typed (txt text CHECK (txt::date IS NOT NULL))", "INSERT INTO typed VALUES ('31/12/2025')",
	}
	const days = "SELECT (SELECT md5(string_agg(day::text, ',' ORDER BY id)) FROM visits) || (SELECT md5(string_agg(day::text || n, ',' ORDER BY day)) FROM days)"
	for name, tt := range testkit.Some(t, 2, map[string]struct {
		server   *scratch.Server
		settings []string // of the database
		content  []string
		same     string
	}{
		"time zone and date style of the database": {server, []string{"timezone = 'Asia/Tokyo'", "datestyle = 'SQL, DMY'"}, localDays, days},
		"time zone and date style of the server":   {tokyo, nil, localDays, days},
		"text search": {server, []string{"default_text_search_config = 'pg_catalog.french'"}, []string{
			"CREATE FUNCTION tsv(text) RETURNS tsvector LANGUAGE sql IMMUTABLE AS 'SELECT to_tsvector($1)'",
			"CREATE TABLE notes (id int, body text, search tsvector GENERATED ALWAYS AS (tsv(body)) STORED)",
			"INSERT INTO notes (id, body) SELECT n, 'les chevaux mangeaient ' || n FROM generate_series(1, 300) AS n",
			"CREATE INDEX ON notes USING gin (tsv(body))",
		}, "SELECT count(*)::text FROM notes WHERE tsv(body) @@ to_tsquery('cheval')"},
		"a setting of the application": {server, []string{"app.pepper = 'x'"}, []string{
			"CREATE FUNCTION peppered(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT md5($1 || current_setting(''app.pepper''))'",
			"CREATE TABLE people (ssn text, hash text GENERATED ALWAYS AS (peppered(ssn)) STORED)", "INSERT INTO people VALUES ('1')",
			"CREATE INDEX ON people (peppered(ssn))",
		}, "SELECT hash FROM people"},
		"a role, read-only, and quotes": {server, []string{"role = 'pg_monitor'", "default_transaction_read_only = on", "quote_all_identifiers = on"}, []string{
			"CREATE TABLE t (a int)", "CREATE VIEW v AS SELECT a FROM t WHERE a > 1", "INSERT INTO t VALUES (1)",
		}, "SELECT count(*)::text FROM t"},
	}) {
		for methodName, method := range fixture.MethodsOf(name, 2) {
			t.Run(name+", "+methodName, func(t *testing.T) {
				dsn := scratchtest.Database(t, tt.server)
				database := fixture.Target(t, dsn).Database()
				for _, s := range tt.settings {
					fixture.Exec(t, tt.server.DSN("postgres"), "ALTER DATABASE "+database+" SET "+s)
				}
				fixture.Exec(t, dsn, append([]string{"SET ROLE NONE", "SET default_transaction_read_only = off"}, tt.content...)...)
				c, b, _ := take(t, dsn, method)
				receipt, err := run(t.Context(), t, options(t, c, b))
				if err != nil || receipt.Proof != pgmedic.ProofProven {
					t.Fatalf("%+v, %v", receipt, err)
				}
				into := fixture.Name(t, tt.server)
				if _, err := restore.Load(t.Context(), fixture.RestoreOptions(t, tt.server, c, b, into)); err != nil {
					t.Fatal(err)
				}
				ask := func(database string) string {
					conn := testkit.Connect(t, tt.server.DSN(database))
					var got string
					if _, err := conn.Exec(t.Context(), "SET ROLE NONE"); err != nil {
						t.Fatal(err)
					}
					if err := conn.QueryRow(t.Context(), tt.same).Scan(&got); err != nil {
						t.Fatal(err)
					}
					return got
				}
				if want, got := ask(database), ask(into); got != want {
					t.Errorf("%s: the copy answers %s, the source %s", tt.same, got, want)
				}
			})
		}
	}
}

// TestMoneyIsAnAmount restores amounts whatever the locale that wrote them.
func TestMoneyIsAnAmount(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE bills (id int, amount money, amounts money[])", "INSERT INTO bills VALUES (1, 123.45::money, '{0.99}')")
	c, b, _ := take(t, dsn, backup.Parallel{Jobs: 2})
	if format := b.Tables[0].Format; format != pgmedic.CopyBinary {
		t.Errorf("money is copied as %s, which depends on lc_monetary", format)
	}
	receipt, err := run(t.Context(), t, options(t, c, b))
	if err != nil || receipt.Proof != pgmedic.ProofProven {
		t.Fatalf("%+v, %v", receipt, err)
	}
}
