package rescue_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestRescueVersions rescues on servers of each version: from backups of that
// version where the installed pg_dump takes them, and otherwise from an older
// one's, and puts rows back by the SQL that is printed.
func TestRescueVersions(t *testing.T) {
	tables := []string{
		"CREATE TABLE claims (id int PRIMARY KEY, paid numeric, lines jsonb, scan bytea, codes text[], gross numeric GENERATED ALWAYS AS (paid * 2) STORED)",
		"CREATE TABLE visits (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
		"CREATE TABLE visits_2025 PARTITION OF visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
		"CREATE TABLE visits_2026 PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
	}
	rows := []string{
		`INSERT INTO claims SELECT n, n / 7.0, '{"n": 1}', decode('00ff', 'hex'), ARRAY['a', NULL, '"'] FROM generate_series(1, 500) AS n`,
		"INSERT INTO visits SELECT n, date '2025-06-01' + n % 400 FROM generate_series(1, 500) AS n",
	}
	const sum = "SELECT md5((SELECT string_agg(c::text, '|' ORDER BY id) FROM claims c) || (SELECT string_agg(v::text, '|' ORDER BY id) FROM visits v))"
	for _, major := range scratchtest.Ends(t) {
		there := scratchtest.New(t, scratch.Options{Major: major})
		foreign := major > server.Major()
		source := there
		if foreign {
			source = server
		}
		from := scratchtest.Database(t, source)
		fixture.Exec(t, from, slices.Concat(tables, rows)...)
		for _, method := range fixture.BothMethods(t, 2) {
			t.Run(strconv.Itoa(major)+" "+string(method.Name()), func(t *testing.T) {
				c := fixture.NewCatalog(t)
				bo := fixture.BackupOptions(t, from, c)
				bo.Method = method
				b, err := backup.Take(t.Context(), bo)
				if err != nil {
					t.Fatal(err)
				}
				want := fixture.Query[string](t, from, sum)
				into := from
				if foreign {
					into = scratchtest.Database(t, there)
					fixture.Exec(t, into, tables...)
				}
				fixture.Exec(t, into, "DELETE FROM claims WHERE id % 3 = 0", "DELETE FROM visits WHERE id > 400")
				o := rescueOptions(t, into, c, b, "claims", "visits")
				o.FromServer = b.Server.Name
				done, err := rescue.Run(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				for _, table := range done.Tables {
					fixture.Exec(t, into, table.SQL.PutBack)
					for name, sql := range map[string]string{"missing": table.SQL.Missing, "added": table.SQL.Added, "changed": table.SQL.Changed} {
						if sql == "" && name == "changed" { // all columns are the key's
							continue
						}
						if n := fixture.Query[int](t, into, "SELECT count(*) FROM ("+strings.TrimSuffix(sql, ";")+") AS x"); n[0] != 0 {
							t.Errorf("%s: %d rows are %s", table.Table, n[0], name)
						}
					}
				}
				if got := fixture.Query[string](t, into, sum); !slices.Equal(got, want) {
					t.Error("the rows are not what they were")
				}
				fixture.Exec(t, into, done.CleanUp)
			})
		}
	}
}
