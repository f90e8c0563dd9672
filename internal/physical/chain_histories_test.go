package physical_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// historyTables is how many tables a history has.
const historyTables = 3

// randomStep is a statement that changes the files of a table in one of the ways in which merges
// have been wrong.
func randomStep(rng *rand.Rand, file string) []string {
	t := fmt.Sprintf("public.h%d", rng.IntN(historyTables))
	from, rows := rng.IntN(1_000_000), 1+rng.IntN(4000)
	insert := fmt.Sprintf("INSERT INTO %s SELECT i, repeat('x', %d) FROM generate_series(%d, %d) AS i", t, rng.IntN(500), from, from+rows)
	switch rng.IntN(12) {
	case 0, 1:
		return []string{insert}
	case 2, 3: // a bulk load, which adds pages that it does not fill
		return []string{fmt.Sprintf("COPY (SELECT i, repeat('c', 400) FROM generate_series(%d, %d) AS i) TO '%s'", from, from+rows, file), fmt.Sprintf("COPY %s FROM '%s'", t, file)}
	case 4, 5: // which VACUUM cuts off
		return []string{fmt.Sprintf("DELETE FROM %s WHERE ctid >= '(%d,0)'", t, rng.IntN(60)), "VACUUM " + t}
	case 6:
		return []string{fmt.Sprintf("DELETE FROM %s WHERE i %% 7 = %d", t, rng.IntN(7)), "VACUUM (TRUNCATE false) " + t}
	case 7:
		return []string{fmt.Sprintf("UPDATE %s SET pad = 'u%d' WHERE i %% 11 = %d", t, from, rng.IntN(11))}
	case 8:
		return []string{"VACUUM (FREEZE) " + t, "CHECKPOINT"}
	case 9:
		return []string{[]string{"VACUUM FULL ", "TRUNCATE ", "REINDEX TABLE "}[rng.IntN(3)] + t}
	case 10:
		return []string{"DROP TABLE " + t, "CREATE TABLE " + t + " (i int, pad text)", "CREATE INDEX ON " + t + " (i)", insert}
	}
	return []string{"BEGIN; " + insert + "; ROLLBACK"}
}

// historySums are what the tables have: all of their rows, and how many an index alone counts.
func historySums(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	var all []string
	for n := range historyTables {
		for _, settings := range []string{"SET enable_indexonlyscan = off; SET enable_seqscan = on", "SET enable_indexonlyscan = on; SET enable_seqscan = off; SET enable_bitmapscan = off"} {
			if _, err := conn.PgConn().Exec(t.Context(), settings).ReadAll(); err != nil {
				t.Fatal(err)
			}
			what := "count(*)"
			if strings.HasSuffix(settings, "seqscan = on") {
				what = "count(*) || ' ' || coalesce(sum(hashtext(i || pad)), 0)"
			}
			all = append(all, ask(t, conn, fmt.Sprintf("SELECT (%s)::text FROM public.h%d WHERE i > -1", what, n)))
		}
	}
	return strings.Join(all, ", ")
}

// TestIncrementalHistories restores chains of random histories: of each the last backup and one
// between.
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

// randomHistory returns how many backups of a history needed others, and were restored.
func randomHistory(t *testing.T, installation scratch.Installation, seed uint64) (merged int) {
	rng := rand.New(rand.NewPCG(seed, uint64(installation.Major)))
	var initArgs []string
	if installation.Major >= 18 && rng.IntN(2) == 0 {
		initArgs = []string{"--no-data-checksums"}
	} else if rng.IntN(2) == 0 {
		initArgs = []string{"--data-checksums"}
	}
	b := newChainBench(t, scratch.Options{Major: installation.Major, BinDir: installation.BinDir, InitArgs: initArgs})
	for n := range historyTables {
		b.run(fmt.Sprintf("CREATE TABLE public.h%d (i int, pad text)", n), fmt.Sprintf("CREATE INDEX ON public.h%d (i)", n),
			fmt.Sprintf("INSERT INTO public.h%d SELECT i, repeat('s', 300) FROM generate_series(1, 5000) AS i", n))
	}
	source := testkit.Dial(t, b.server.DSN("postgres"))
	defer testkit.End(source)
	var taken []*pgmedic.Backup
	var sums []string
	var done []string
	for range 3 + rng.IntN(5) {
		for range rng.IntN(8) {
			statements := randomStep(rng, filepath.Join(b.server.Dir(), "copied"))
			b.run(statements...)
			done = append(done, statements...)
		}
		taken, sums = append(taken, b.take()), append(sums, historySums(t, source))
		done = append(done, "-- backup "+string(taken[len(taken)-1].Physical.Kind))
	}
	for _, i := range []int{len(taken) - 1, rng.IntN(len(taken))} {
		members := b.members(taken[i])
		if len(members) < 2 {
			continue
		}
		dir := b.merged(members)
		b.fetchWAL(taken[i], dir)
		restored := b.start(dir)
		if got := historySums(t, restored); got != sums[i] {
			t.Errorf("backup %d of %d has %s, and the source had %s\n%s", i, len(taken), got, sums[i], strings.Join(done, "\n"))
		}
		if _, err := restored.PgConn().Exec(t.Context(), checkIndexes).ReadAll(); err != nil {
			t.Errorf("backup %d of %d: %v\n%s", i, len(taken), err, strings.Join(done, "\n"))
		}
		if wrong := ask(t, restored, wrongPages); wrong != "0" {
			t.Errorf("amcheck and pg_visibility find %s faults in backup %d of %d\n%s", wrong, i, len(taken), strings.Join(done, "\n"))
		}
		merged++
	}
	return merged
}

// checkIndexes fails for an index of the tables of a history that lacks a row, and wrongPages
// counts what PostgreSQL's own checks find in the tables.
const (
	checkIndexes = `CREATE EXTENSION amcheck; CREATE EXTENSION pg_visibility;
SELECT bt_index_check(indexrelid, true) FROM pg_index WHERE indrelid::regclass::text ~ '^h[0-9]+$'`
	wrongPages = `SELECT count(f.wrong)::text FROM pg_class AS c CROSS JOIN LATERAL (
	SELECT true FROM verify_heapam(c.oid) UNION ALL SELECT true FROM pg_check_visible(c.oid) UNION ALL SELECT true FROM pg_check_frozen(c.oid)) AS f (wrong)
WHERE c.relkind = 'r' AND c.relname ~ '^h[0-9]+$'`
)
