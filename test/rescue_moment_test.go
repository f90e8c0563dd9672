package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// rescuedMoment is what restore says in JSON of tables of a moment.
type rescuedMoment struct {
	Schema, Moment string
	BackupID       string `json:"backup_id"`
	Tables         []struct {
		Table, As, Compared string
		Rows                int64
		Live                bool
	}
}

// momentBench is a server with a history, and a folder for throwaway servers.
type momentBench struct {
	*walBench
	scratches string
	// base is the base backup; before is a moment before a wrong change and the drop of a
	// table, after is one after both.
	base, before, after string
	// claims and visits are the sums of the tables at the moment before.
	claims, visits string
}

const (
	claimsSum = `SELECT count(*) || ' ' || md5(string_agg(c::text, ',' ORDER BY id)) FROM %s AS c`
	visitsSum = `SELECT count(*) || ' ' || md5(string_agg(v::text, ',' ORDER BY n)) FROM %s AS v`
)

func (b *momentBench) sumOf(sum, table string) string {
	return b.ask(strings.Replace(sum, "%s", table, 1))
}

// newMomentBench makes a history: a base backup, rows, a moment, a wrong change and a drop.
func newMomentBench(t *testing.T, major int) *momentBench {
	t.Helper()
	b := &momentBench{walBench: newWALBench(t, major)}
	b.scratches = filepath.Join(b.tmp, "scratches")
	if err := os.MkdirAll(b.scratches, 0o755); err != nil {
		t.Fatal(err)
	}
	b.base = b.streamed(func() {
		b.sql("CREATE DOMAIN payer AS text CHECK (VALUE <> '')")
		b.sql("CREATE TABLE claims (id bigint PRIMARY KEY, payer payer, at timestamptz DEFAULT now(), amount numeric(12, 2), twice numeric GENERATED ALWAYS AS (amount * 2) STORED)")
		b.sql("CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS n")
		b.sql(`CREATE SCHEMA "a b"`)
		b.sql(`CREATE TABLE "a b".visits (n int, note text) PARTITION BY RANGE (n)`)
		b.sql(`CREATE TABLE "a b".early PARTITION OF "a b".visits FOR VALUES FROM (0) TO (100)`)
		b.sql(`CREATE TABLE "a b".late PARTITION OF "a b".visits FOR VALUES FROM (100) TO (1000)`)
	}, func() {
		b.sql("INSERT INTO claims (id, payer, amount) SELECT g, 'payer ' || g, g * 1.5 FROM generate_series(1, 500) AS g")
		b.sql(`INSERT INTO "a b".visits SELECT g, repeat('ä', g) FROM generate_series(1, 300) AS g`)
		b.sql("SELECT pg_create_restore_point('before the release')")
		b.claims, b.visits = b.sumOf(claimsSum, "claims"), b.sumOf(visitsSum, `"a b".visits`)
		b.before = b.ask("SELECT clock_timestamp()::timestamptz(6)::text")
		b.sql("UPDATE claims SET payer = 'nobody'")
		b.sql(`DROP TABLE "a b".visits`)
		b.after = b.ask("SELECT clock_timestamp()::timestamptz(6)::text")
		b.sql("INSERT INTO claims (id, payer) VALUES (501, 'right, and later')")
	})
	dirs := b.server.BinDir()
	if major > 15 { // of which the installed client programs are not
		dirs = scratchtest.Complete(t, major).BinDir
	}
	b.reader = append(b.reader, "DATABASE_URL="+b.server.URL("postgres"), "PGMEDIC_POSTGRES_DIRS="+dirs)
	return b
}

// restore runs a restore of a moment, and looks that nothing is left of its throwaway
// server.
func (b *momentBench) restore(code int, args ...string) result {
	b.t.Helper()
	r := b.asReader(append([]string{"restore", "--yes", "--scratch-dir", b.scratches}, args...)...)
	if r.code != code {
		b.t.Fatalf("restore %q: exit code %d, want %d: %s%s", args, r.code, code, r.stdout, r.stderr)
	}
	b.nothingLeft(args)
	return r
}

func (b *momentBench) nothingLeft(of any) {
	b.t.Helper()
	if left, err := os.ReadDir(b.scratches); err != nil || len(left) > 0 {
		b.t.Errorf("%q left %v, %v", of, left, err)
	}
}

// tables is restore for tables, whose result is read.
func (b *momentBench) tables(args ...string) (got rescuedMoment) {
	b.t.Helper()
	r := b.restore(0, append([]string{"--json"}, args...)...)
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		b.t.Fatalf("%v: %s", err, r.stdout)
	}
	return got
}

// TestRescueMoment brings a table that a wrong UPDATE changed, and one that was dropped,
// back as they were before, beside the living ones, which do not change. At a moment after
// the drop there is nothing to bring back.
func TestRescueMoment(t *testing.T) {
	rescueMoment(t, newMomentBench(t, 0))
}

// TestRescueMomentOnEveryMajor is TestRescueMoment of the versions that differ most.
func TestRescueMomentOnEveryMajor(t *testing.T) {
	testkit.OnlyAll(t, "a server and two recoveries for each version")
	for _, major := range []int{12, 17, 18} {
		t.Run(strconv.Itoa(major), func(t *testing.T) { rescueMoment(t, newMomentBench(t, major)) })
	}
}

func rescueMoment(t *testing.T, b *momentBench) {
	t.Helper()
	living := b.sumOf(claimsSum, "claims")
	got := b.tables("--to-time", b.before, "--table", "claims", "--table", `"a b".visits`)
	if got.BackupID != b.base || got.Moment == "" || len(got.Tables) != 2 {
		t.Fatalf("%+v", got)
	}
	for _, table := range got.Tables {
		sum, want, live := visitsSum, b.visits, false
		if table.Table == `"public"."claims"` || table.Table == "public.claims" {
			// The generated column is computed again with the row.
			sum, want, live = strings.Replace(claimsSum, "%s AS c", "(SELECT *, (amount * 2)::numeric AS twice FROM %s) AS c", 1), b.claims, true
		}
		if s := b.sumOf(sum, table.As); s != want || table.Compared != "values" || table.Live != live {
			t.Errorf("%+v has %s, want %s", table, s, want)
		}
	}
	if is := b.sumOf(claimsSum, "claims"); is != living {
		t.Errorf("the living table is %s, was %s", is, living)
	}
	r := b.restore(10, "--to-time", b.after, "--table", `"a b".visits`)
	if !strings.Contains(r.stderr, `there was no table "a b".visits in database "postgres" at 2`) {
		t.Errorf("a table that was dropped: %s", r.stderr)
	}
}

// TestRescueMomentTargets takes the other targets, and a whole database.
func TestRescueMomentTargets(t *testing.T) {
	testkit.OnlyAll(t, "six recoveries of one cluster")
	b := newMomentBench(t, 0)
	for _, args := range [][]string{{"--to-name", "before the release"}, {"--to-end"}} {
		got := b.tables(append(args, "--table", "claims")...)
		rows := map[string]int64{"--to-name": 500, "--to-end": 501}[args[0]]
		if len(got.Tables) != 1 || got.Tables[0].Rows != rows || got.Tables[0].Compared != "values" {
			t.Errorf("%q: %+v", args, got)
		}
	}
	position := b.ask("SELECT pg_current_wal_flush_lsn()::text")
	if r := b.restore(10, "--to-lsn", "FF/0", "--table", "claims"); !strings.Contains(r.stderr, "FF/0") {
		t.Errorf("a position behind %s: %s", position, r.stderr)
	}
	r := b.restore(0, "--to-time", b.before, "--database", "postgres", "--into", "as it was")
	if !strings.Contains(r.stderr, "unlogged tables come back empty") || !strings.Contains(r.stderr, "fleeting") {
		t.Errorf("an unlogged table: %s", r.stderr)
	}
	if shown := b.asReader("show", b.base); !strings.Contains(shown.stdout, "restore") {
		t.Errorf("the base backup has no receipt: %s", shown.stdout)
	}
	if !strings.Contains(r.stdout, "as of 2") || !strings.Contains(r.stdout, "value by value") {
		t.Errorf("a database: %s%s", r.stdout, r.stderr)
	}
	conn := testkit.Connect(t, b.server.DSN("as it was"))
	var claims, visits string
	err := conn.QueryRow(t.Context(), strings.Replace(claimsSum, "%s", "claims", 1)).Scan(&claims)
	if err == nil {
		err = conn.QueryRow(t.Context(), strings.Replace(visitsSum, "%s", `"a b".visits`, 1)).Scan(&visits)
	}
	if err != nil || claims != b.claims || visits != b.visits {
		t.Errorf("%s, %s, want %s, %s; %v", claims, visits, b.claims, b.visits, err)
	}
	if r := b.restore(14, "--to-time", b.before, "--into", "as it was"); !strings.Contains(r.stderr, "exists already") {
		t.Errorf("a second time: %s", r.stderr)
	}
	if r := b.restore(10, "--to-end", "--database", "nowhere", "--into", "copy"); !strings.Contains(r.stderr, `there was no database "nowhere" at the end of the stored WAL`) {
		t.Errorf("no such database: %s", r.stderr)
	}
	if r := b.restore(10, "--to-time", "2026-01-01 00:00:00+00", "--table", "claims"); !strings.Contains(r.stderr, "2026-01-01 00:00:00Z") {
		t.Errorf("before the base backup: %s", r.stderr)
	}
	// A dry run makes nothing, and says what it does not know.
	schemas := func() string {
		return b.ask("SELECT count(*)::text FROM pg_namespace WHERE nspname ~ '^pgmedic'")
	}
	was := schemas()
	if r := b.restore(0, "--to-time", b.before, "--table", "nothing_of_that_name", "--dry-run"); !strings.Contains(r.stdout, "nothing was made; whether that is there at the moment is not known") {
		t.Errorf("a dry run: %s%s", r.stdout, r.stderr)
	}
	if is := schemas(); is != was {
		t.Errorf("a dry run made a schema: %s, were %s", is, was)
	}
}

// TestRescueMomentTablespaces: --globals makes the roles of the moment, and no tablespace, which
// would lie in the folder of the throwaway server and go with it. One that the living server
// lacks is named, and the database comes back once it is there.
func TestRescueMomentTablespaces(t *testing.T) {
	testkit.OnlyAll(t, "three recoveries of one cluster")
	b := &momentBench{walBench: newWALBench(t, 0)}
	b.scratches = filepath.Join(b.tmp, "scratches")
	if err := os.MkdirAll(b.scratches, 0o755); err != nil {
		t.Fatal(err)
	}
	earlier, later := b.serverFolder("earlier"), b.serverFolder("later")
	b.base = b.streamed(func() {
		b.sql("CREATE TABLESPACE earlier LOCATION '" + earlier + "'")
		b.sql("CREATE TABLESPACE unused LOCATION '" + b.serverFolder("unused") + "'")
		b.sql("CREATE ROLE clerk")
		b.sql("CREATE TABLE a TABLESPACE earlier AS SELECT generate_series(1, 10) AS n")
		b.sql("ALTER TABLE a OWNER TO clerk")
	}, func() {
		b.sql("CREATE TABLESPACE later LOCATION '" + later + "'")
		b.sql("CREATE TABLE b TABLESPACE later AS SELECT generate_series(1, 20) AS n")
		b.before = b.ask("SELECT clock_timestamp()::timestamptz(6)::text")
		b.sql("DROP TABLE a, b")
		b.sql("DROP ROLE clerk")
	})
	b.sql("DROP TABLESPACE earlier")
	b.sql("DROP TABLESPACE later")
	b.sql("DROP TABLESPACE unused")
	b.reader = append(b.reader, "DATABASE_URL="+b.server.URL("postgres"), "PGMEDIC_POSTGRES_DIRS="+b.server.BinDir())
	args := []string{"--to-time", b.before, "--database", "postgres", "--into", "back", "--globals"}
	made := func() string {
		return b.ask("SELECT string_agg(spcname || ' ' || pg_tablespace_location(oid), ', ' ORDER BY spcname) FROM pg_tablespace WHERE spcname !~ '^pg_'")
	}
	for _, name := range []string{"earlier", "later"} {
		if r := b.restore(10, args...); !strings.Contains(r.stderr, `the server lacks tablespace "`+name+`"`) {
			t.Errorf("without tablespace %s: %s", name, r.stderr)
		}
		b.sql("CREATE TABLESPACE " + name + " LOCATION '" + map[string]string{"earlier": earlier, "later": later}[name] + "'")
	}
	r := b.restore(0, args...)
	if !strings.Contains(r.stdout, "tablespaces not made: unused") {
		t.Errorf("the tablespace that nothing is in: %s", r.stdout)
	}
	if want := "earlier " + earlier + ", later " + later; made() != want {
		t.Errorf("tablespaces %s, want %s", made(), want)
	}
	conn := testkit.Connect(t, b.server.DSN("back"))
	var got string
	if err := conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM a) || ' ' || (SELECT count(*) FROM b) || ' ' || (SELECT relowner::regrole FROM pg_class WHERE relname = 'a')").Scan(&got); err != nil || got != "10 20 clerk" {
		t.Errorf("rows and owner: %s, %v", got, err)
	}
}

// TestRescueMomentInterrupted: a rescue that is interrupted, or killed, leaves nothing in
// the living server, and what a killed one left of its throwaway server goes with the next.
func TestRescueMomentInterrupted(t *testing.T) {
	testkit.OnlyAll(t, "a recovery for each of its places")
	b := newMomentBench(t, 0)
	args := []string{"restore", "--scratch-dir", b.scratches, "--to-time", b.before, "--table", "claims"}
	env := b.env
	empty := func(when string) {
		t.Helper()
		if n := b.ask("SELECT count(*)::text FROM pg_namespace WHERE nspname ~ '^pgmedic'"); n != "0" {
			t.Errorf("%s: %s schemas are left", when, n)
		}
	}
	b.env = b.reader
	rescue := b.start(args...)
	b.env = env
	testkit.Eventually(t, time.Minute, "the scratch is being filled", func() bool {
		found, err := filepath.Glob(filepath.Join(b.scratches, "*", "wal", "*"))
		return err == nil && len(found) > 0
	})
	rescue.signal(syscall.SIGINT)
	if r := rescue.wait(time.Minute); r.code != 130 {
		t.Errorf("interrupted: exit code %d, %s", r.code, r.stderr)
	}
	b.nothingLeft("an interrupt")
	empty("an interrupt")
	for _, point := range slices.Concat(replayPoints(), extractPoints()) {
		b.program, b.env = mortal(t), append(append([]string{}, b.reader...), "PGMEDIC_FAILPOINT=kill:"+point)
		rescue := b.start(args...)
		b.program, b.env = "", env
		if r := rescue.wait(time.Minute); r.code == 0 {
			t.Errorf("%s: it was not killed: %s%s", point, r.stdout, r.stderr)
		}
		empty(point)
		b.noServers(b.scratches)
	}
	b.tables("--to-time", b.before, "--table", "claims")
}

// TestRescueMomentKilled: a rescue of a moment that is killed while it loads changes no living
// table. The next one drops what it left in the living server, and brings the rows.
func TestRescueMomentKilled(t *testing.T) {
	testkit.OnlyAll(t, "it builds the program with failpoints, and takes two recoveries for each of its places")
	b := newMomentBench(t, 0)
	args := []string{"--scratch-dir", b.scratches, "--to-time", b.before, "--table", "claims"}
	env, living := b.env, b.sumOf(claimsSum, "claims")
	schemas := func() string {
		return b.ask("SELECT coalesce(string_agg(nspname, ' ' ORDER BY nspname), '') FROM pg_namespace WHERE nspname ~ '^pgmedic'")
	}
	for _, point := range rescuePoints() {
		before := schemas()
		b.program, b.env = mortal(t), append(slices.Clone(b.reader), "PGMEDIC_FAILPOINT=kill:"+point)
		r := b.run(append([]string{"restore", "--yes"}, args...)...)
		b.program, b.env = "", env
		if left := schemas(); r.code != -1 || left == before {
			t.Fatalf("%s: exit code %d, schemas %s: %s%s", point, r.code, left, r.stdout, r.stderr)
		}
		b.noServers(b.scratches)
		got := b.tables(args...)
		if len(got.Tables) != 1 || got.Tables[0].Compared != "values" || got.Tables[0].Rows != 500 {
			t.Errorf("%s: %+v", point, got)
		}
		if is := schemas(); is != strings.TrimSpace(before+" "+got.Schema) {
			t.Errorf("%s: schemas are %s, were %s, and %s is new", point, is, before, got.Schema)
		}
		if is := b.sumOf(claimsSum, "claims"); is != living {
			t.Errorf("%s: the living table is %s, was %s", point, is, living)
		}
	}
}

// rescuePoints are the places at which a rescue is killed that loads rows.
func rescuePoints() []string { return []string{"rescue-made", "rescue-chunk", "rescue-loaded"} }

// TestRescueMomentUsage refuses what can't be obeyed, in one line.
func TestRescueMomentUsage(t *testing.T) {
	b := newBench(t, patients("10")...)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	for want, args := range map[string][]string{
		"--table is for restores of one database":          {"--target-dir", filepath.Join(b.tmp, "x"), "--to-end", "--table", "patients"},
		"--compare is not for tables or a database":        {"--to-end", "--into", "x", "--compare", "counts"},
		"--start is for restores of a whole cluster":       {"--to-end", "--table", "patients", "--start"},
		"--to-time, --to-lsn, --to-name, --to-end":         {"--to-end", "--to-name", "x", "--table", "patients"},
		"--to-time is empty, or false":                     {"--to-time", "", "--table", "patients"},
		"--table is empty":                                 {"--to-end", "--table", ""},
		"say where database clinic of the moment is to go": {"--to-end", "--database", "clinic"},
		"--into, --swap and --table exclude each other":    {"--to-end", "--table", "patients", "--into", "x"},
		"--globals makes roles":                            {"--to-end", "--table", "patients", "--globals"},
		"is not a time with its offset":                    {"--to-time", "10:42", "--table", "patients"},
		"is of a database, not of a cluster":               {id, "--to-end", "--table", "patients"},
		"--to-end is for restores of a whole cluster":      {"--to-end"},
	} {
		code := 2
		r := b.run(append([]string{"restore"}, args...)...)
		if r.code != code || !strings.Contains(r.stderr, want) {
			t.Errorf("%q: exit code %d, %s", args, r.code, r.stderr)
		}
	}
	const swapRefused = "error: --swap does not take a database of a moment\nhint: restore it beside the live database with --into NAME, compare the two, and rename both with ALTER DATABASE\n"
	for _, args := range [][]string{{"--to-end", "--swap"}, {"--to-time", "2026-11-29 10:41:59+00", "--database", "clinic", "--swap"}, {"--to-end", "--swap", "--dry-run"}} {
		if r := b.run(append([]string{"restore"}, args...)...); r.code != 2 || r.stderr != swapRefused {
			t.Errorf("%q: exit code %d, %s", args, r.code, r.stderr)
		}
	}
	if r := b.run("restore", "--to-end", "--table", "patients"); r.code != 10 || !strings.Contains(r.stderr, "there is no physical backup in") {
		t.Errorf("no base backup: exit code %d, %s", r.code, r.stderr)
	}
}

// extractPoints are the places at which a rescue of a moment is killed.
func extractPoints() []string { return []string{"extract-recovered", "extract-taken"} }
