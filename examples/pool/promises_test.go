package examples_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	upstream "github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/pgmedic/pgmedic/examples/pool/bun"
	"github.com/pgmedic/pgmedic/examples/pool/gorm"
	"github.com/pgmedic/pgmedic/examples/pool/otelpgx"
	"github.com/pgmedic/pgmedic/examples/pool/river"
	"github.com/pgmedic/pgmedic/examples/pool/scany"
	"github.com/pgmedic/pgmedic/examples/pool/sqlc"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// calls are what a service does through a library. Those that are nil it does not do.
type calls struct {
	// book writes one row in one call, and list reads.
	book func(ctx context.Context, patient string) error
	list func(ctx context.Context) (int, error)
	// inTx writes in a transaction, or as book does.
	inTx func(ctx context.Context) error
}

// library is one row of the table in docs/pool.md.
type library struct {
	name string
	// table is where book writes.
	table string
	// config is what the library changes of the pool's configuration.
	config func(pool.Config) pool.Config
	open   func(t *testing.T, db *pool.DB) calls
}

// appointments are what the examples of four libraries have in common.
type appointments[T any] interface {
	Book(ctx context.Context, patient string, room int32) (int64, error)
	InRoom(ctx context.Context, room int32) ([]T, error)
	Move(ctx context.Context, id int64, room int32) error
}

// callsOf are those of such an example, with an appointment that inTx moves.
func callsOf[T any](t *testing.T, a appointments[T]) calls {
	t.Helper()
	id, err := a.Book(t.Context(), "moved", 2)
	if err != nil {
		t.Fatal(err)
	}
	return calls{
		book: func(ctx context.Context, patient string) error { _, err := a.Book(ctx, patient, 1); return err },
		list: func(ctx context.Context) (int, error) { list, err := a.InRoom(ctx, 1); return len(list), err },
		inTx: func(ctx context.Context) error { return a.Move(ctx, id, 3) },
	}
}

// libraries are the rows of the table.
func libraries() []library {
	same := func(c pool.Config) pool.Config { return c }
	withScany := func(t *testing.T, db *pool.DB) calls { return callsOf(t, scany.New(db)) }
	return []library{
		{"scany", "appointments", same, withScany},
		{"otelpgx", "appointments", func(c pool.Config) pool.Config { return otelpgx.Traced(c, trace.NewTracerProvider()) }, withScany},
		{"sqlc", "appointments", same, func(t *testing.T, db *pool.DB) calls { return callsOf(t, sqlc.New(db)) }},
		{"bun", "appointments", same, func(t *testing.T, db *pool.DB) calls { return callsOf(t, bun.New(db)) }},
		{"gorm", "appointments", same, func(t *testing.T, db *pool.DB) calls {
			a, err := gorm.New(db)
			if err != nil {
				t.Fatal(err)
			}
			return callsOf(t, a)
		}},
		{"River, jobs inserted within `InTx`", "appointments", same, func(t *testing.T, db *pool.DB) calls {
			if err := river.Migrate(t.Context(), db, silent()); err != nil {
				t.Fatal(err)
			}
			a, err := river.New(db)
			if err != nil {
				t.Fatal(err)
			}
			book := func(ctx context.Context, patient string) error { _, err := a.Book(ctx, patient, 1); return err }
			return calls{book: book, inTx: func(ctx context.Context) error { return book(ctx, "in a transaction") }}
		}},
		{"River, its own statements", "river_job", same, func(t *testing.T, db *pool.DB) calls {
			if err := river.Migrate(t.Context(), db, silent()); err != nil {
				t.Fatal(err)
			}
			plain, err := db.NewPlain(t.Context(), pool.PlainOptions{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(plain.Close)
			jobs, err := upstream.NewClient(riverpgxv5.New(plain), &upstream.Config{Logger: silent()})
			if err != nil {
				t.Fatal(err)
			}
			book := func(ctx context.Context, _ string) error {
				_, err := jobs.Insert(ctx, river.Reminder{Appointment: 1}, nil)
				return err
			}
			list := func(ctx context.Context) (int, error) {
				found, err := jobs.JobList(ctx, upstream.NewJobListParams())
				if err != nil {
					return 0, err
				}
				return len(found.Jobs), nil
			}
			return calls{book: book, list: list, inTx: func(ctx context.Context) error { return book(ctx, "") }}
		}},
	}
}

// TestPromises breaks what each library does on the pool, and compares what comes of it
// with its row in docs/pool.md.
func TestPromises(t *testing.T) {
	page, err := os.ReadFile("../../docs/pool.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range libraries() {
		t.Run(l.name, func(t *testing.T) {
			seen := &roles{readOnly: map[bool]int{}}
			db := clinic(t, with(l.config(pool.Config{}), seen))
			c, conn := l.open(t, db), admin(t, db)
			idleEnded(t, conn, c)
			row := []string{conflict(t, conn, l, c), lost(t, conn, l, c), reads(t, seen, c), held(t, conn, l, c, db)}
			if line := " | " + strings.Join(row, " | ") + " |\n"; !inTable(string(page), l.name, line) {
				t.Errorf("docs/pool.md has no row for %s that ends with%s", l.name, line)
			}
		})
	}
}

// inTable says whether a page has a row of that name with that end.
func inTable(page, name, end string) bool {
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "| "+name+" |") && strings.HasSuffix(line, end) {
			return true
		}
	}
	return false
}

// once makes the next insert or update of a table do something, and none after it, until
// the function that it returns is called. What is counted by a sequence stays when a
// transaction does not.
func once(t *testing.T, conn *pgx.Conn, table, what string) (end func()) {
	t.Helper()
	run(
		t, conn, "CREATE SEQUENCE tries",
		"CREATE FUNCTION once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('tries') = 1 THEN "+what+" END IF; RETURN NEW; END $$",
		"CREATE TRIGGER once BEFORE INSERT OR UPDATE ON "+table+" FOR EACH ROW EXECUTE FUNCTION once()",
	)
	return func() { run(t, conn, "DROP FUNCTION once() CASCADE", "DROP SEQUENCE tries") }
}

// idleEnded ends all idle sessions: with every library, no call fails for that.
func idleEnded(t *testing.T, conn *pgx.Conn, c calls) {
	t.Helper()
	if err := c.book(t.Context(), "before"); err != nil {
		t.Fatal(err)
	}
	run(t, conn, "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	if err := c.book(t.Context(), "after"); err != nil {
		t.Errorf("after idle sessions had ended: %v", err)
	}
}

// conflict makes the first try of a transaction fail with a serialization failure.
func conflict(t *testing.T, conn *pgx.Conn, l library, c calls) string {
	t.Helper()
	end := once(t, conn, l.table, "RAISE EXCEPTION 'a conflict' USING ERRCODE = '40001';")
	err := c.inTx(t.Context())
	tries := number(t, conn, "SELECT last_value FROM tries")
	end()
	switch {
	case err == nil && tries == 2:
		return "tried again"
	case pool.Classify(err) == pool.ClassConflict && tries == 1:
		return "`ClassConflict`"
	}
	t.Errorf("after a conflict: %v, with %d tries", err, tries)
	return ""
}

// lost ends the session of a write in the middle of it.
func lost(t *testing.T, conn *pgx.Conn, l library, c calls) string {
	t.Helper()
	count := "SELECT count(*) FROM " + l.table
	before := number(t, conn, count)
	end := once(t, conn, l.table, "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(600);")
	err := c.book(t.Context(), "lost")
	written := number(t, conn, count) - before
	end()
	switch {
	case err == nil && written == 1:
		return "tried again"
	case errors.Is(err, pool.ErrOutcomeUnknown) && written == 0:
		return "`ErrOutcomeUnknown`"
	case err != nil && written == 0:
		return "pgx's error"
	}
	t.Errorf("after a lost connection: %v, with %d rows", err, written)
	return ""
}

// roles is a tracer that counts statements that were sent in sessions that only read, as
// the pool makes them for Read on a primary, too, and in others.
type roles struct {
	mu       sync.Mutex
	readOnly map[bool]int
}

func (r *roles) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, "FROM") && strings.Contains(data.SQL, "SELECT") {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.readOnly[conn.PgConn().ParameterStatus("default_transaction_read_only") == "on"]++
	}
	return ctx
}

func (r *roles) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// reads says whether the library's reads are sent as such, so that a standby may answer.
func reads(t *testing.T, seen *roles, c calls) string {
	t.Helper()
	if c.list == nil {
		return "-"
	}
	seen.mu.Lock()
	clear(seen.readOnly)
	seen.mu.Unlock()
	if n, err := c.list(t.Context()); err != nil || n < 2 {
		t.Fatalf("%d rows were listed: %v", n, err)
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	switch {
	case seen.readOnly[true] > 0 && seen.readOnly[false] == 0:
		return "yes"
	case seen.readOnly[true] == 0 && seen.readOnly[false] > 0:
		return "no"
	}
	t.Errorf("reads were %v", seen.readOnly)
	return ""
}

// held shuts the pool down while a write waits for a lock: the pool says who holds the
// connection, if it knows.
func held(t *testing.T, conn *pgx.Conn, l library, c calls, db *pool.DB) string {
	t.Helper()
	watch := admin(t, db)
	run(t, conn, "BEGIN", "LOCK TABLE "+l.table+" IN ACCESS EXCLUSIVE MODE")
	booked := make(chan error, 1)
	go func() { booked <- c.book(t.Context(), "waiting") }()
	testkit.Eventually(t, time.Minute, "the write waits for the lock", func() bool {
		return number(t, watch, "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == 1
	})
	inUse := db.Stats().Servers[0].InUse
	ended, end := context.WithCancel(t.Context())
	end()
	err := db.Shutdown(ended)
	run(t, conn, "ROLLBACK")
	bookErr := <-booked
	var cut *pool.ShutdownError
	switch {
	case inUse == 1 && errors.As(err, &cut) && len(cut.Cut) == 1 && cut.Cut[0].Running &&
		strings.Contains(cut.Cut[0].TakenBy, "github.com/pgmedic/pgmedic/examples/pool/") && bookErr != nil:
		return "yes"
	case inUse == 0 && err == nil && bookErr == nil:
		return "no"
	}
	t.Errorf("%d in use, shutdown: %v, the write: %v", inUse, err, bookErr)
	if cut != nil {
		t.Logf("%+v", cut.Cut)
	}
	return ""
}
