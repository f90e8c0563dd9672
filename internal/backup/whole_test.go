package backup_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// awkward are names that a pattern for "does not end in _seq" may get wrong.
var awkward = []string{
	"q", "eq", "seq", "_seq", "a_seq", "A_SEQ", "xseq", "x_eq", "a_seq_b", "orders_seq1", "two\nlines", "two\nlines_seq", "dots.and*stars?", `qu"ote_seq`, "größe", "$1",
}

// TestParallelWholeSchemas backs up schemas whose tables pg_dump is told of by one
// pattern, and others: no row comes back twice, and no sequence without its value.
func TestParallelWholeSchemas(t *testing.T) {
	for _, major := range scratchtest.Ends(t) {
		if major > server.Major() {
			continue // the tests' newer servers come without pg_dump
		}
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Run("each", func(t *testing.T) { wholeSchemas(t, major, true) })
			t.Run("all at once", func(t *testing.T) { wholeSchemas(t, major, false) })
		})
	}
}

// wholeSchemas backs up schemas, in one of which, where each is to be named to
// pg_dump, a sequence has a name by which it can't be told from a table.
func wholeSchemas(t *testing.T, major int, each bool) {
	s := server
	if s.Major() != major {
		s = scratchtest.New(t, scratch.Options{Major: major})
	}
	dsn := scratchtest.Database(t, s)
	for _, schema := range []string{"bare", "serial", "Odd.Name"} {
		sql := []string{"CREATE SCHEMA " + sqltext.QuoteIdent(schema)}
		for i, name := range awkward {
			sql = append(sql, "CREATE TABLE "+sqltext.QuoteQualified(schema, name)+fmt.Sprintf(" AS SELECT generate_series(1, %d) AS n", i+1))
		}
		if schema != "bare" {
			sql = append(sql, "CREATE TABLE "+sqltext.QuoteIdent(schema)+".people (id int GENERATED ALWAYS AS IDENTITY, other serial)",
				"INSERT INTO "+sqltext.QuoteIdent(schema)+".people SELECT FROM generate_series(1, 7)")
		}
		if schema == "Odd.Name" && each { // its own choice of a name: pg_dump has to be told of each table
			sql = append(sql, `CREATE SEQUENCE "Odd.Name".numbers`, `SELECT setval('"Odd.Name".numbers', 42)`)
		}
		fixture.Exec(t, dsn, sql...)
	}
	fixture.Exec(t, dsn, "CREATE SCHEMA lonely", "CREATE SEQUENCE lonely.of_its_own_seq", "SELECT setval('lonely.of_its_own_seq', 9)")
	const state = `SELECT c.relname || ' ' || (xpath('/row/n/text()', query_to_xml(format(
				CASE relkind WHEN 'S' THEN 'SELECT last_value AS n FROM %s' ELSE 'SELECT count(*) AS n FROM %s' END, c.oid::regclass), false, true, '')))[1]::text
				FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE relkind IN ('r', 'S') AND nspname IN ('bare', 'serial', 'Odd.Name', 'lonely') ORDER BY nspname, 1`
	want := fixture.Query[string](t, dsn, state)

	o := fixture.BackupOptions(t, dsn, fixture.NewCatalog(t))
	o.Method, o.Tools = backup.Parallel{Jobs: 2}, pgtool.Finder{Dirs: []string{server.BinDir()}}
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, own := b.Object(pgmedic.RoleRest); own {
		t.Error("pg_dump ran twice for the values of a few sequences")
	}
	r := fixture.RestoreOptions(t, s, o.Catalog, b, fixture.Name(t, s))
	r.Tools = o.Tools
	if _, err := restore.Into(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if len(b.Chunks) > 4 {
		t.Errorf("%d chunks of %d small tables", len(b.Chunks), len(b.Tables))
	}
	if got := fixture.Query[string](t, s.DSN(r.Into), state); !slices.Equal(got, want) {
		t.Errorf("the copy has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestParallelSharedChunkLost ends a worker's session in the middle of a chunk of
// several tables: all of them are copied again, each once.
func TestParallelSharedChunkLost(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	for i := range 5 {
		fixture.Exec(t, dsn, fmt.Sprintf("CREATE TABLE t%d AS SELECT n, repeat(md5(n::text), 4) FROM generate_series(1, 1000 + %d) AS n", i, i))
	}
	var d *badDay
	d = newBadDay(t, server, dsn, func(_ context.Context, r io.Reader) io.Reader {
		return fixture.At(r, 300<<10, func() {
			if n := d.terminate(t, server, "query LIKE 'COPY%'"); n != 1 {
				t.Errorf("%d sessions ended", n)
			}
		})
	})
	d.o.Seal = seal.Options{Compression: seal.CompressionNone}
	b, err := backup.Take(t.Context(), d.o)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(d.said.String(), "a connection was lost") {
		t.Errorf("nothing is said of it:\n%s", d.said)
	}
	if len(b.Chunks) != 1 || len(b.Chunks[0].Parts) != 5 || b.Chunks[0].Offset == 0 || b.Chunks[0].Rows() != 5010 {
		t.Errorf("chunks: %+v", b.Chunks)
	}
	copied := restored(t, server, d.o.Catalog, b)
	for i := range 5 {
		if n := fixture.Query[int](t, copied, fmt.Sprintf("SELECT count(*) FROM t%d", i))[0]; n != 1000+i {
			t.Errorf("%d rows of t%d", n, i)
		}
	}
}

// TestParallelMaterializedViews: what is to be filled at the end of a restore is
// among pg_dump's definitions, and no pattern for tables' rows takes it away.
func TestParallelMaterializedViews(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE p (id serial, n int)", "INSERT INTO p(n) SELECT generate_series(1,10)",
		"CREATE MATERIALIZED VIEW m AS SELECT count(*) AS c FROM p", "CREATE MATERIALIZED VIEW never AS SELECT 1 AS one WITH NO DATA",
		"CREATE SCHEMA bare", "CREATE TABLE bare.t AS SELECT 1 AS n", "CREATE MATERIALIZED VIEW bare.m AS SELECT n FROM bare.t")
	o := fixture.BackupOptions(t, dsn, fixture.NewCatalog(t))
	o.Method = backup.Parallel{Jobs: 2}
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, own := b.Object(pgmedic.RoleRest); own {
		t.Error("pg_dump ran twice for the values of a sequence")
	}
	copied := restored(t, server, o.Catalog, b)
	if got := fixture.Query[string](t, copied, "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'm' AND relispopulated ORDER BY 1"); len(got) != 2 {
		t.Errorf("filled: %q, want bare.m and m", got)
	}
}
