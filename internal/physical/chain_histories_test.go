package physical_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

const (
	// historyTables is how many tables a history has, and historyDatabases how many more
	// databases, which are made again and again under the same OIDs.
	historyTables, historyDatabases = 3, 2
	// longChain is how many backups the longest chain has.
	longChain = 7
	// historyTemplate is what those databases are made of.
	historyTemplate = "htemplate"
)

// historyTable makes a table of a history. Its key is never used twice, unless an old version of
// a row comes back.
func historyTable(name string) []string {
	return []string{"CREATE TABLE " + name + " (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, i int, pad text)", "CREATE INDEX ON " + name + " (i)"}
}

// historyStep is what changes a database. An empty one is the first.
type historyStep struct {
	database   string
	statements []string
}

func (s historyStep) String() string {
	text := strings.Join(s.statements, "\n")
	if s.database != "" {
		return "-- in " + s.database + "\n" + text
	}
	return text
}

// randomStep is a step that changes the files of a table, or of a database, in one of the ways in
// which merges have been wrong.
func randomStep(rng *rand.Rand, file string) historyStep {
	t := fmt.Sprintf("public.h%d", rng.IntN(historyTables))
	from, rows := rng.IntN(1_000_000), 1+rng.IntN(4000)
	insert := fmt.Sprintf("INSERT INTO %s (i, pad) SELECT i, repeat('x', %d) FROM generate_series(%d, %d) AS i", t, rng.IntN(500), from, from+rows)
	in := func(statements ...string) historyStep { return historyStep{statements: statements} }
	switch rng.IntN(16) {
	case 0, 1:
		return in(insert)
	case 2, 3: // a bulk load, which adds pages that it does not fill
		return in(fmt.Sprintf("COPY (SELECT i, repeat('c', 400) FROM generate_series(%d, %d) AS i) TO '%s'", from, from+rows, file), fmt.Sprintf("COPY %s (i, pad) FROM '%s'", t, file))
	case 4, 5: // which VACUUM cuts off
		return in(fmt.Sprintf("DELETE FROM %s WHERE ctid >= '(%d,0)'", t, rng.IntN(60)), "VACUUM "+t)
	case 6:
		return in(fmt.Sprintf("DELETE FROM %s WHERE i %% 7 = %d", t, rng.IntN(7)), "VACUUM (TRUNCATE false) "+t)
	case 7:
		return calmStep(rng)
	case 8:
		return in("VACUUM (FREEZE) "+t, "CHECKPOINT")
	case 9:
		return in([]string{"VACUUM FULL ", "TRUNCATE ", "REINDEX TABLE "}[rng.IntN(3)] + t)
	case 10:
		return in(append(append([]string{"DROP TABLE " + t}, historyTable(t)...), insert)...)
	case 11, 12: // a backup between the two has no rows of it
		return in("ALTER TABLE " + t + " SET " + []string{"UNLOGGED", "LOGGED"}[rng.IntN(2)])
	case 13, 14: // other files under the names of before
		n := rng.IntN(historyDatabases)
		return in(fmt.Sprintf("DROP DATABASE IF EXISTS hd%d WITH (FORCE)", n),
			fmt.Sprintf("CREATE DATABASE hd%d TEMPLATE %s STRATEGY %s OID %d", n, historyTemplate, []string{"wal_log", "file_copy"}[rng.IntN(2)], 90000+n))
	}
	return historyStep{historyTemplate, []string{
		fmt.Sprintf("DELETE FROM public.h0 WHERE ctid >= '(%d,0)'", rng.IntN(60)), "VACUUM public.h0", strings.Replace(insert, t, "public.h0", 1),
	}}
}

// calmStep changes rows, and cuts no file off: the next backup is not a full one for it. It adds
// rows that no other one changes, so that the backup after it alone has them.
func calmStep(rng *rand.Rand) historyStep {
	t, from := fmt.Sprintf("public.h%d", rng.IntN(historyTables)), rng.IntN(90_000)
	return historyStep{statements: []string{
		fmt.Sprintf("UPDATE %s SET pad = 'u%d' WHERE i %% 11 = %d", t, from, rng.IntN(10)),
		fmt.Sprintf("INSERT INTO %s (i, pad) SELECT 11 * i + 10, repeat('n', 300) FROM generate_series(%d, %d) AS i", t, from, from+500),
	}}
}

// step runs a step.
func (b *bench) step(s historyStep) {
	b.t.Helper()
	if s.database == "" {
		b.run(s.statements...)
		return
	}
	// Closed at once: a database that is a template, or is dropped, has no sessions.
	conn := testkit.Dial(b.t, b.server.DSN(s.database))
	defer testkit.End(conn)
	postgrestest.Run(b.t, conn, s.statements...)
}

// inEach calls what is given with a session of each database of a history.
func inEach(t *testing.T, conn *pgx.Conn, do func(name string, in *pgx.Conn)) {
	t.Helper()
	do("postgres", conn)
	for _, name := range postgrestest.Query[[]string](t, conn, "SELECT array_agg(datname::text ORDER BY datname) FROM pg_database WHERE datname ~ '^h(d[0-9]|template)$'") {
		config := conn.Config().Copy()
		config.Database = name
		in, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatalf("connect to database %s: %v", name, err)
		}
		do(name, in)
		if err := in.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// historySums are what the tables of each database have: all of their rows, and how many an index
// alone counts. Of the source's unlogged tables a backup has no rows.
func historySums(t *testing.T, conn *pgx.Conn, source bool) string {
	t.Helper()
	var all []string
	inEach(t, conn, func(name string, in *pgx.Conn) {
		for _, table := range postgrestest.Query[[]string](t, in, "SELECT array_agg(relname || ' ' || relpersistence::text ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relname ~ '^h[0-9]$'") {
			table, persistence, _ := strings.Cut(table, " ")
			rows := "true"
			if source && persistence == "u" {
				rows = "false"
			}
			for _, settings := range []string{"SET enable_indexonlyscan = off; SET enable_seqscan = on", "SET enable_indexonlyscan = on; SET enable_seqscan = off; SET enable_bitmapscan = off"} {
				postgrestest.Run(t, in, strings.Split(settings, "; ")...)
				what := "count(*)"
				if strings.HasSuffix(settings, "seqscan = on") {
					what = "count(*) || ' ' || coalesce(sum(hashtext(id || ' ' || i || pad)), 0)"
				}
				all = append(all, name+"."+table+persistence+" "+ask(t, in, fmt.Sprintf("SELECT (%s)::text FROM public.%s WHERE i > -1 AND %s", what, table, rows)))
			}
		}
	})
	return strings.Join(all, ", ")
}

// TestIncrementalHistories restores chains of random histories: of each the last backup and one
// between, and of one in five a chain that is as long as they get.
func TestIncrementalHistories(t *testing.T) {
	testkit.OnlyAll(t, "it takes PostgreSQL 17 and 18 and several servers of each")
	scratchtest.EachCompleteFrom(t, 17, func(t *testing.T, installation scratch.Installation) {
		histories, merged := testkit.Amount(0, 1, 100), 0
		for seed := range uint64(histories) {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { merged += randomHistory(t, installation, seed) })
		}
		t.Logf("%d backups of %d histories were merged and restored", merged, histories)
		if merged < histories {
			t.Errorf("%d of %d histories have full backups alone", histories-merged, histories)
		}
	})
}

// history is one of a random history, of which backups were taken.
type history struct {
	*bench
	source *pgx.Conn
	taken  []*pgmedic.Backup
	// sums are what the source had at each, and done is all that was done.
	sums, done []string
}

func (h *history) take(steps ...historyStep) {
	h.t.Helper()
	for _, s := range steps {
		h.step(s)
		h.done = append(h.done, s.String())
	}
	m := h.bench.take()
	h.taken, h.sums = append(h.taken, m), append(h.sums, historySums(h.t, h.source, true))
	h.done = append(h.done, "-- backup "+string(m.Physical.Kind))
}

func newHistory(t *testing.T, installation scratch.Installation, rng *rand.Rand) *history {
	t.Helper()
	var initArgs []string
	if installation.Major >= 18 && rng.IntN(2) == 0 {
		initArgs = []string{"--no-data-checksums"}
	} else if rng.IntN(2) == 0 {
		initArgs = []string{"--data-checksums"}
	}
	h := &history{bench: newChainBench(t, scratch.Options{Major: installation.Major, BinDir: installation.BinDir, InitArgs: initArgs})}
	fill := func(name string) []string {
		return append(historyTable(name), "INSERT INTO "+name+" (i, pad) SELECT i, repeat('s', 300) FROM generate_series(1, 5000) AS i")
	}
	for n := range historyTables {
		h.run(fill(fmt.Sprintf("public.h%d", n))...)
	}
	h.run("CREATE DATABASE " + historyTemplate)
	h.step(historyStep{historyTemplate, fill("public.h0")})
	h.source = testkit.Connect(t, h.server.DSN("postgres"))
	return h
}

// randomHistory returns how many backups of a history needed others, and were restored.
func randomHistory(t *testing.T, installation scratch.Installation, seed uint64) (merged int) {
	rng := rand.New(rand.NewPCG(seed, uint64(installation.Major)))
	h := newHistory(t, installation, rng)
	for range 3 + rng.IntN(5) {
		var steps []historyStep
		for range rng.IntN(8) {
			steps = append(steps, randomStep(rng, filepath.Join(h.server.Dir(), "copied")))
		}
		h.take(steps...)
	}
	last := func() *pgmedic.Backup { return h.taken[len(h.taken)-1] }
	long := seed%5 == 0
	for n := 0; long && last().Physical.Depth < longChain-1 && n < 2*longChain; n++ {
		h.take(calmStep(rng))
	}
	if long && last().Physical.Depth != longChain-1 {
		t.Errorf("the last backup has depth %d, want %d\n%s", last().Physical.Depth, longChain-1, h.log.String())
	}
	for _, i := range []int{len(h.taken) - 1, rng.IntN(len(h.taken))} {
		members := h.members(h.taken[i])
		if len(members) < 2 {
			continue
		}
		dir := h.merged(members)
		h.fetchWAL(h.taken[i], dir)
		for _, wrong := range h.faults(h.start(dir), i) {
			t.Errorf("backup %d of %d: %s\n%s", i, len(h.taken), wrong, strings.Join(h.done, "\n"))
		}
		merged++
	}
	if long {
		h.control(len(h.taken)-1, installation)
	}
	return merged
}

// faults are what is wrong with a restored backup.
func (h *history) faults(restored *pgx.Conn, i int) (all []string) {
	t := h.t
	t.Helper()
	if got := historySums(t, restored, false); got != h.sums[i] {
		all = append(all, fmt.Sprintf("it has %s, and the source had %s", got, h.sums[i]))
	}
	inEach(t, restored, func(name string, in *pgx.Conn) {
		if _, err := in.PgConn().Exec(t.Context(), checkIndexes).ReadAll(); err != nil {
			all = append(all, fmt.Sprintf("in %s: %v", name, err))
		}
		if wrong := ask(t, in, wrongPages); wrong != "0" {
			all = append(all, fmt.Sprintf("amcheck and pg_visibility find %s faults in %s", wrong, name))
		}
	})
	return all
}

// control has PostgreSQL's own program merge the same backups. It is known to be wrong of some
// histories: what it makes of them is reported.
func (h *history) control(i int, installation scratch.Installation) {
	h.t.Helper()
	dir := h.combined(h.members(h.taken[i]), installation.BinDir)
	h.fetchWAL(h.taken[i], dir)
	wrong := h.faults(h.start(dir), i)
	for _, what := range wrong {
		h.t.Logf("pg_combinebackup of PostgreSQL %s: %s", installation.Version, what)
	}
	if len(wrong) == 0 {
		h.t.Logf("pg_combinebackup of PostgreSQL %s: as ours", installation.Version)
	}
}

// checkIndexes fails for an index of the tables of a history that lacks a row, or has a key twice
// that is unique, and wrongPages counts what PostgreSQL's own checks find in the tables.
const (
	checkIndexes = `CREATE EXTENSION amcheck; CREATE EXTENSION pg_visibility;
SELECT bt_index_check(indexrelid, true, true) FROM pg_index WHERE indrelid::regclass::text ~ '^h[0-9]+$'`
	wrongPages = `SELECT count(f.wrong)::text FROM pg_class AS c CROSS JOIN LATERAL (
	SELECT true FROM verify_heapam(c.oid) UNION ALL SELECT true FROM pg_check_visible(c.oid) UNION ALL SELECT true FROM pg_check_frozen(c.oid)) AS f (wrong)
WHERE c.relkind = 'r' AND c.relname ~ '^h[0-9]+$'`
)
