package maintain_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/inspect"
	"github.com/pgmedic/pgmedic/internal/maintain"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var server *scratch.Server

func TestMain(m *testing.M) {
	o := scratch.Options{Settings: map[string]string{"autovacuum": "off"}}
	os.Exit(scratchtest.Main(m, o, func(s *scratch.Server) { server = s }))
}

// world is a database that needs maintenance.
type world struct {
	t    *testing.T
	dsn  string
	conn *pgx.Conn
}

// needy makes a table with dead rows, one with a swollen index, and a partitioned one
// that was never analyzed.
func needy() []string {
	return []string{
		"CREATE EXTENSION pgstattuple", "CREATE EXTENSION amcheck",
		"CREATE TABLE dead (id int, note text)", "INSERT INTO dead SELECT i, 'x' FROM generate_series(1, 5000) AS i", "ANALYZE dead", "DELETE FROM dead WHERE id > 2000",
		"CREATE TABLE visits (id int PRIMARY KEY)", "INSERT INTO visits SELECT generate_series(1, 100000)", "DELETE FROM visits WHERE id % 100 <> 0", "VACUUM ANALYZE visits",
		"CREATE TABLE whole (id int) PARTITION BY RANGE (id)", "CREATE TABLE whole_1 PARTITION OF whole FOR VALUES FROM (0) TO (100000)",
		"INSERT INTO whole SELECT generate_series(1, 3000)", "VACUUM ANALYZE whole_1",
	}
}

func newWorld(t *testing.T, s *scratch.Server, statements ...string) *world {
	t.Helper()
	w := &world{t: t, dsn: scratchtest.Database(t, s)}
	w.conn = w.connect()
	// What a session counted is known to others when it has ended, which the server does
	// after its client, and a VACUUM of its own would come before.
	for _, vacuums := range []bool{false, true} {
		session := w.connect()
		for _, sql := range statements {
			if strings.HasPrefix(sql, "VACUUM") == vacuums {
				w.exec(session, sql)
			}
		}
		pid := session.PgConn().PID()
		if err := session.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.until("the session has ended", fmt.Sprintf("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %d", pid))
	}
	if len(statements) == len(needy()) {
		w.until("the dead rows are counted", "SELECT coalesce(max(n_dead_tup), 0) > 2000 FROM pg_stat_user_tables WHERE relname = 'dead'")
	}
	return w
}

func (w *world) connect() *pgx.Conn {
	w.t.Helper()
	return testkit.Connect(w.t, w.dsn)
}

func (w *world) exec(conn *pgx.Conn, sql string) {
	w.t.Helper()
	if _, err := conn.Exec(context.WithoutCancel(w.t.Context()), sql); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

func (w *world) ask(sql string, args ...any) (answer string) {
	w.t.Helper()
	if err := w.conn.QueryRow(w.t.Context(), sql, args...).Scan(&answer); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

func (w *world) until(what string, sql string) {
	w.t.Helper()
	testkit.Eventually(w.t, time.Minute, what, func() bool { return w.ask("SELECT ("+sql+")::text") == "true" })
}

func (w *world) target(user string) postgres.Target {
	w.t.Helper()
	t, err := postgres.ParseTarget(w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	if user != "" {
		t = t.With("user", user)
	}
	return t
}

// plan opens a session and plans, with thresholds for a database of some megabytes.
func (w *world) plan(user string, kinds ...maintain.Kind) (*maintain.Session, *maintain.Plan) {
	w.t.Helper()
	ctx := w.t.Context()
	session, err := maintain.Open(ctx, w.target(user))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { session.Close(context.WithoutCancel(ctx)) })
	got, err := inspect.Server(ctx, inspect.Options{Target: w.target(user), Collect: collect.Options{
		ExactBloat: true, Sections: []string{reading.SectionTables, reading.SectionIndexes, reading.SectionLimits},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(kinds) == 0 {
		kinds = maintain.DefaultKinds()
	}
	f := maintain.Facts{Reading: got, Kinds: kinds, Thresholds: reading.DefaultThresholds()}
	f.Thresholds.BloatMinBytes = 1 << 20
	f, err = session.Complete(ctx, judged(f))
	if err != nil {
		w.t.Fatal(err)
	}
	return session, maintain.NewPlan(f)
}

// roomy has plenty of disk.
func roomy(context.Context, *pgx.Conn) (int64, string) { return 1 << 50, "" }

// outcome returns what became of the step on an object.
func outcome(t *testing.T, p *maintain.Plan, object string) maintain.Step {
	t.Helper()
	for _, s := range p.Steps {
		if s.Object == object {
			return s
		}
	}
	t.Fatalf("no step on %s in %+v", object, p)
	return maintain.Step{}
}

func (w *world) leftovers() string {
	return w.ask("SELECT coalesce(string_agg(c.relname, ' '), '') FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid")
}

// TestRun maintains a database that needs it; then there is nothing to do.
func TestRun(t *testing.T) {
	w := newWorld(t, server, needy()...)
	before := w.ask("SELECT pg_relation_size('visits_pkey')::text")
	session, p := w.plan("")
	events := 0
	if err := session.Run(t.Context(), p, maintain.Options{Disk: roomy, Event: func(pgmedic.Event) { events++ }}); err != nil {
		t.Fatal(err)
	}
	for object, statement := range map[string]string{
		"public.dead": `VACUUM (ANALYZE, SKIP_LOCKED) "public"."dead";`, "public.visits_pkey": `REINDEX INDEX CONCURRENTLY "public"."visits_pkey";`, "public.whole": `ANALYZE (SKIP_LOCKED) "public"."whole";`,
	} {
		if s := outcome(t, p, object); s.Outcome != maintain.Done || s.Statement != statement {
			t.Errorf("%+v", s)
		}
	}
	if len(p.Steps) != 3 || p.Undone() != 0 || events < 6 {
		t.Errorf("%d undone, %d events: %s", p.Undone(), events, strings.Join(lines(p), "\n"))
	}
	if after := w.ask("SELECT pg_relation_size('visits_pkey')::text"); len(after) >= len(before) {
		t.Errorf("the index has %s bytes and had %s", after, before)
	}
	if dead := w.ask("SELECT dead_tuple_count::text FROM pgstattuple('dead')"); dead != "0" {
		t.Errorf("%s dead rows", dead)
	}
	if got := w.ask("SELECT count(*)::text FROM pg_stats WHERE tablename = 'whole' AND inherited"); got != "1" {
		t.Errorf("%s statistics of the whole table", got)
	}
	if left := w.leftovers(); left != "" {
		t.Errorf("left: %s", left)
	}
	session.Close(t.Context())
	if _, p := w.plan(""); len(p.Steps) != 0 {
		t.Errorf("a second plan has %v", lines(p))
	}
}

// refusal is something that speaks against one step.
type refusal struct {
	change func(w *world, o *maintain.Options)
	object string
	want   string
}

// TestRunRefuses: each of what speaks against a step leaves it out, and the rest is done.
func TestRunRefuses(t *testing.T) {
	const index, table = "public.visits_pkey", "public.dead"
	for name, tt := range testkit.Some(t, 4, map[string]refusal{
		"table locked": {func(w *world, _ *maintain.Options) { w.exec(w.connect(), "BEGIN; LOCK TABLE dead") }, table, "another session holds a lock on it"},
		"dropped":      {func(w *world, _ *maintain.Options) { w.exec(w.conn, "DROP TABLE dead") }, table, "dropped or renamed"},
		"replaced": {func(w *world, _ *maintain.Options) {
			w.exec(w.conn, "ALTER TABLE dead RENAME TO old; CREATE TABLE dead ()")
		}, table, "dropped or renamed"},
		"long transaction": {func(w *world, o *maintain.Options) { w.exec(w.connect(), "BEGIN"); o.LongTransaction = 1 }, index, "a transaction has been open"},
		"pg_dump":          {func(w *world, _ *maintain.Options) { w.exec(w.connect(), "SET application_name = 'pg_dump'") }, index, "pg_dump works on the database"},
		"not tracked":      {func(w *world, _ *maintain.Options) { w.exec(w.connect(), "SET track_activities = off") }, index, "whether long transactions run is not known"},
		"a backup runs": {func(w *world, _ *maintain.Options) {
			lock, err := databases.AcquireRunLock(w.t.Context(), w.target(""), "postgres", w.target("").Database())
			if err != nil {
				w.t.Fatal(err)
			}
			w.t.Cleanup(func() { lock.Release(context.WithoutCancel(w.t.Context())) })
		}, index, "a backup or another run of pgmedic works on the database: pid "},
		"no room": {func(_ *world, o *maintain.Options) {
			o.Disk = func(context.Context, *pgx.Conn) (int64, string) { return 1 << 20, "" }
		}, index, "1.0 MiB of disk space are free, and twice the size"},
		"room hidden": {func(_ *world, o *maintain.Options) {
			o.Disk = func(context.Context, *pgx.Conn) (int64, string) { return 0, "it is far away" }
		}, index, "free disk space is not known: it is far away"},
		"unmeasured": {func(_ *world, o *maintain.Options) { o.Disk = nil }, index, "free disk space is not known"},
		"slot": {func(w *world, _ *maintain.Options) {
			w.exec(w.conn, "ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'")
			w.exec(w.conn, "SELECT pg_reload_conf()")
			w.exec(w.conn, "SELECT pg_create_physical_replication_slot('fragile', true)")
			w.t.Cleanup(func() {
				w.exec(w.conn, "SELECT pg_drop_replication_slot('fragile')")
				w.exec(w.conn, "ALTER SYSTEM RESET max_slot_wal_keep_size")
				w.exec(w.conn, "SELECT pg_reload_conf()")
			})
			w.until("the slot is bounded", "SELECT safe_wal_size IS NOT NULL FROM pg_replication_slots")
			w.exec(w.conn, "CREATE TABLE filler AS SELECT repeat('x', 1000) AS t FROM generate_series(1, 16000)")
		}, index, "its WAL could invalidate the replication slot fragile"},
	}) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, server, needy()...)
			session, p := w.plan("")
			o := maintain.Options{Disk: roomy}
			tt.change(w, &o)
			if err := session.Run(context.WithoutCancel(t.Context()), p, o); err != nil {
				t.Fatal(err)
			}
			if s := outcome(t, p, tt.object); s.Outcome != maintain.Skipped || !strings.Contains(s.Detail, tt.want) {
				t.Errorf("%+v", s)
			}
			if p.Undone() != 1 {
				t.Errorf("%+v", p.Steps)
			}
			if left := w.leftovers(); left != "" {
				t.Errorf("left: %s", left)
			}
		})
	}
}

// TestReindexInterrupted interrupts a REINDEX that waits for another session: its new
// index is dropped, and the one that somebody else left stays.
func TestReindexInterrupted(t *testing.T) {
	for name, cause := range testkit.Some(t, 1, map[string]error{"interrupt": errors.New("interrupted"), "window": maintain.ErrWindow}) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, server, needy()...)
			// As a REINDEX of somebody else leaves it.
			other := w.connect()
			w.exec(other, "BEGIN; INSERT INTO visits VALUES (0)")
			failing := w.connect()
			w.exec(failing, "SET lock_timeout = '1ms'")
			if _, err := failing.Exec(t.Context(), "REINDEX INDEX CONCURRENTLY visits_pkey"); err == nil {
				t.Fatal("it did not wait")
			}
			w.exec(other, "ROLLBACK")
			if got := w.leftovers(); got != "visits_pkey_ccnew" {
				t.Fatalf("left: %q", got)
			}
			session, p := w.plan("", maintain.Reindex)
			if len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "visits_pkey_ccnew is an invalid index that this run did not make") {
				t.Errorf("%q", p.Notes)
			}

			w.exec(other, "BEGIN; INSERT INTO visits VALUES (0)")
			ctx, interrupt := context.WithCancelCause(context.WithoutCancel(t.Context()))
			done := make(chan error, 1)
			go func() { done <- session.Run(ctx, p, maintain.Options{Disk: roomy}) }()
			w.until("REINDEX waits", "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = 'visits_pkey_ccnew1') "+
				"AND EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'REINDEX%' AND wait_event_type = 'Lock')")
			interrupt(cause)
			w.until("it cleans up, and waits in turn", "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'DROP INDEX%' AND wait_event_type = 'Lock')")
			w.exec(other, "ROLLBACK")
			err := <-done
			want := cause
			if name == "window" {
				want = nil // it ended as it was told to
			}
			if !errors.Is(err, want) {
				t.Errorf("error %v", err)
			}
			if s := outcome(t, p, "public.visits_pkey"); s.Outcome != maintain.Failed || s.Detail != cause.Error() {
				t.Errorf("%+v", s)
			}
			if got := w.leftovers(); got != "visits_pkey_ccnew" {
				t.Errorf("left: %q", got)
			}
			if got := w.ask("SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'visits_pkey'::regclass"); got != "true" {
				t.Error("the index is invalid")
			}
		})
	}
}

// TestLeftoverIsTold: what can't be dropped, because somebody holds the table, is named
// with the statement that drops it.
func TestLeftoverIsTold(t *testing.T) {
	testkit.OnlyAll(t, "it waits for locks three times")
	w := newWorld(t, server, needy()...)
	session, p := w.plan("", maintain.Reindex)
	w.exec(w.connect(), "BEGIN; INSERT INTO visits VALUES (0)")
	if err := session.Run(t.Context(), p, maintain.Options{Disk: roomy}); err != nil {
		t.Fatal(err)
	}
	s := outcome(t, p, "public.visits_pkey")
	if s.Outcome != maintain.Failed || !strings.Contains(s.Detail, `an invalid index is left: DROP INDEX CONCURRENTLY IF EXISTS "public"."visits_pkey_ccnew";`) {
		t.Errorf("%+v", s)
	}
}

// TestLeftoverIsDroppedInTheEnd: what could not be dropped at first is tried once more.
func TestLeftoverIsDroppedInTheEnd(t *testing.T) {
	testkit.OnlyAll(t, "it waits for locks twice")
	w := newWorld(t, server, needy()...)
	session, p := w.plan("", maintain.Reindex)
	other := w.connect()
	w.exec(other, "BEGIN; INSERT INTO visits VALUES (0)")
	done := make(chan error, 1)
	go func() { done <- session.Run(t.Context(), p, maintain.Options{Disk: roomy}) }()
	const waits = "FROM pg_stat_activity WHERE query LIKE 'DROP INDEX%' AND wait_event_type = 'Lock'"
	w.until("it cleans up", "SELECT EXISTS (SELECT "+waits+")")
	first := w.ask("SELECT max(query_start)::text " + waits)
	w.until("it cleans up again", "SELECT EXISTS (SELECT "+waits+" AND query_start > '"+first+"')")
	w.exec(other, "ROLLBACK")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s := outcome(t, p, "public.visits_pkey")
	if s.Outcome != maintain.Failed || !strings.Contains(s.Detail, "lock timeout") || !strings.HasSuffix(s.Detail, "; the invalid index that it left was dropped at the end of the run") {
		t.Errorf("%+v", s)
	}
	if left := w.leftovers(); left != "" {
		t.Errorf("left: %s", left)
	}
}

// TestWindowOver begins nothing.
func TestWindowOver(t *testing.T) {
	w := newWorld(t, server, needy()...)
	session, p := w.plan("")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 0, maintain.ErrWindow)
	defer cancel()
	if err := session.Run(ctx, p, maintain.Options{Disk: roomy}); err != nil {
		t.Fatal(err)
	}
	if p.Undone() != 3 {
		t.Errorf("%+v", p.Steps)
	}
	for _, s := range p.Steps {
		if s.Outcome != maintain.Skipped || s.Detail != "it was not begun: the time window is over" {
			t.Errorf("%+v", s)
		}
	}
}

// TestRoles: what a role may not do is said, before and where it lost the right since.
func TestRoles(t *testing.T) {
	w := newWorld(t, server, needy()...)
	role := "maintain_" + strings.ToLower(strings.TrimPrefix(w.target("").Database(), "test_"))
	w.exec(w.conn, fmt.Sprintf("CREATE ROLE %s LOGIN; GRANT pg_monitor TO %[1]s", role))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, sql := range []string{"REASSIGN OWNED BY %s TO CURRENT_USER", "DROP OWNED BY %s", "DROP ROLE %s"} {
			if _, err := w.conn.Exec(ctx, fmt.Sprintf(sql, role)); err != nil {
				t.Error(err)
			}
		}
	})
	session, p := w.plan(role)
	if err := session.Run(t.Context(), p, maintain.Options{Disk: roomy}); err != nil {
		t.Fatal(err)
	}
	if len(p.Steps) == 0 || p.Undone() < len(p.Steps) {
		t.Errorf("%+v", p.Steps)
	}
	for _, s := range p.Steps {
		if s.Outcome != maintain.Skipped || !strings.Contains(s.Detail, "the role may not") {
			t.Errorf("%+v", s)
		}
	}
	session.Close(t.Context())

	w.exec(w.conn, "ALTER TABLE dead OWNER TO "+role)
	session, p = w.plan(role, maintain.Vacuum)
	w.exec(w.conn, "ALTER TABLE dead OWNER TO CURRENT_USER")
	if err := session.Run(t.Context(), p, maintain.Options{Disk: roomy}); err != nil {
		t.Fatal(err)
	}
	if s := outcome(t, p, "public.dead"); s.Outcome != maintain.Skipped || !strings.Contains(s.Detail, "the server warned (SQLSTATE 01000)") {
		t.Errorf("%+v", s)
	}
	session.Close(t.Context())

	// The owner of the index, who may not see what others do.
	w.exec(w.conn, fmt.Sprintf("ALTER TABLE visits OWNER TO %s; REVOKE pg_monitor FROM %[1]s; GRANT pg_stat_scan_tables TO %[1]s", role))
	w.connect()
	session, p = w.plan(role, maintain.Reindex)
	if err := session.Run(t.Context(), p, maintain.Options{Disk: roomy}); err != nil {
		t.Fatal(err)
	}
	if s := outcome(t, p, "public.visits_pkey"); s.Outcome != maintain.Skipped || !strings.Contains(s.Detail, "hidden from this role") {
		t.Errorf("%+v", s)
	}
}

// TestAmcheck finds an index whose order is not that of its operator class any more.
func TestAmcheck(t *testing.T) {
	w := newWorld(t, server, "CREATE EXTENSION amcheck",
		"CREATE FUNCTION cmp(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.btint4cmp($1, $2)'",
		"CREATE OPERATOR CLASS shaky FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 cmp(int, int)",
		"CREATE TABLE t AS SELECT generate_series(1, 100) AS id", "CREATE INDEX good ON t (id)", "CREATE INDEX bad ON t (id shaky)",
		"CREATE OR REPLACE FUNCTION cmp(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.btint4cmp($2, $1)'")
	session, p := w.plan("", maintain.Amcheck)
	if err := session.Run(t.Context(), p, maintain.Options{}); err != nil {
		t.Fatal(err)
	}
	if s := outcome(t, p, "public.good"); s.Outcome != maintain.Done {
		t.Errorf("%+v", s)
	}
	if s := outcome(t, p, "public.bad"); s.Outcome != maintain.Damaged || p.Damaged() != 1 {
		t.Errorf("%+v", s)
	}
}

// TestVacuumHeldBack: a VACUUM that can't remove the rows is not called done.
func TestVacuumHeldBack(t *testing.T) {
	w := newWorld(t, server, needy()...)
	session, p := w.plan("", maintain.Vacuum)
	w.exec(w.connect(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM dead LIMIT 1")
	w.exec(w.conn, "DELETE FROM dead")
	if err := session.Run(t.Context(), p, maintain.Options{}); err != nil {
		t.Fatal(err)
	}
	if s := outcome(t, p, "public.dead"); s.Outcome != maintain.Failed || !strings.Contains(s.Detail, "VACUUM had to leave 2,000 dead rows") {
		t.Errorf("%+v", s)
	}
}

// TestHostileNames: whatever a table and an index are called, they alone are maintained,
// and what is printed drives no terminal.
func TestHostileNames(t *testing.T) {
	w := newWorld(t, server, needy()...)
	w.exec(w.conn, `ALTER TABLE dead RENAME TO "x""; DROP TABLE visits; --"`)
	w.exec(w.conn, `ALTER INDEX visits_pkey RENAME TO "lines`+"\n\x1b[31m"+`\ and 'quotes'"`)
	session, p := w.plan("")
	if err := session.Run(t.Context(), p, maintain.Options{Disk: roomy}); err != nil {
		t.Fatal(err)
	}
	if len(p.Steps) != 3 || p.Undone() != 0 {
		t.Errorf("%+v", p.Steps)
	}
	for _, line := range lines(p) {
		if strings.ContainsAny(line, "\n\x1b") {
			t.Errorf("%q", line)
		}
	}
	if got := w.ask("SELECT count(*)::text FROM visits"); got != "1000" {
		t.Errorf("%s visits", got)
	}
}

// TestTerminated: where an administrator ends the session, no further step is begun, and
// what its REINDEX left is dropped by another session.
func TestTerminated(t *testing.T) {
	w := newWorld(t, server, needy()...)
	session, p := w.plan("")
	other := w.connect()
	w.exec(other, "BEGIN; INSERT INTO visits VALUES (0)")
	done := make(chan error, 1)
	go func() { done <- session.Run(t.Context(), p, maintain.Options{Disk: roomy}) }()
	w.until("REINDEX waits", "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'REINDEX%' AND wait_event_type = 'Lock') AND EXISTS (SELECT FROM pg_index WHERE NOT indisvalid)")
	w.exec(w.conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'REINDEX%' AND pid <> pg_backend_pid()")
	w.until("it cleans up", "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'DROP INDEX%' AND wait_event_type = 'Lock')")
	w.exec(other, "ROLLBACK")
	if err := <-done; pgmedic.KindOf(err) != pgmedic.KindUnreachable {
		t.Errorf("%v", err)
	}
	if s := outcome(t, p, "public.visits_pkey"); s.Outcome != maintain.Failed {
		t.Errorf("%+v", s)
	}
	if s := outcome(t, p, "public.dead"); s.Outcome != maintain.Skipped || !strings.Contains(s.Detail, "it was not begun: ") {
		t.Errorf("%+v", s)
	}
	if left := w.leftovers(); left != "" {
		t.Errorf("left: %s", left)
	}
}

// TestOneAtATime: a second run is refused while the first goes on.
func TestOneAtATime(t *testing.T) {
	w := newWorld(t, server)
	w.plan("")
	if _, err := maintain.Open(t.Context(), w.target("")); pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), "another pgmedic maintain works on the database") {
		t.Errorf("%v", err)
	}
}

// TestStandby: a standby is refused, and VACUUM on its primary takes no lock that would
// cancel queries there.
func TestStandby(t *testing.T) {
	testkit.OnlyAll(t, "it starts two servers")
	primary := scratchtest.New(t, scratch.Options{})
	standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{})
	w := newWorld(t, primary, needy()...)
	standby.CatchUp(t)
	target, err := postgres.ParseTarget(standby.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := maintain.Open(t.Context(), target); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("%v", err)
	}
	session, p := w.plan("")
	if err := session.Run(t.Context(), p, maintain.Options{Disk: roomy}); err != nil {
		t.Fatal(err)
	}
	if s := outcome(t, p, "public.dead"); s.Outcome != maintain.Done || !strings.Contains(s.Statement, "TRUNCATE false") {
		t.Errorf("%+v", s)
	}
	session.Close(t.Context())

	w = newWorld(t, primary, needy()...)
	standby.CatchUp(t)
	session, p = w.plan("", maintain.Reindex)
	standby.Pause(t)
	w.exec(w.conn, "CREATE TABLE more ()")
	w.until("the standby lags", "SELECT coalesce(max(replay_lag) > '0', false) FROM pg_stat_replication")
	if err := session.Run(t.Context(), p, maintain.Options{Disk: roomy, MaxLag: 1}); err != nil {
		t.Fatal(err)
	}
	if s := outcome(t, p, "public.visits_pkey"); s.Outcome != maintain.Skipped || !strings.Contains(s.Detail, "behind") {
		t.Errorf("%+v", s)
	}
	standby.Resume(t)
}

// TestOnEveryMajor runs everything on the oldest version, 15 and the newest, where a role
// needs no more than MAINTAIN.
func TestOnEveryMajor(t *testing.T) {
	testkit.OnlyAll(t, "it starts other servers")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			w := newWorld(t, scratchtest.New(t, scratch.Options{Major: major, Settings: map[string]string{"autovacuum": "off"}}), needy()...)
			user := ""
			if major >= 17 {
				user = "keeper"
				w.exec(w.conn, "CREATE ROLE keeper LOGIN; GRANT pg_monitor TO keeper; GRANT MAINTAIN ON dead, visits, whole, whole_1 TO keeper")
			}
			session, p := w.plan(user)
			if err := session.Run(t.Context(), p, maintain.Options{Disk: roomy}); err != nil {
				t.Fatal(err)
			}
			// Before PostgreSQL 15 counts arrive in any order, and may ask for one more.
			for _, object := range []string{"public.dead", "public.visits_pkey", "public.whole"} {
				outcome(t, p, object)
			}
			if p.Undone() != 0 {
				t.Errorf("%s %v", strings.Join(lines(p), "\n"), p.Unread)
			}
		})
	}
}
