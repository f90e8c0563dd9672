package examples_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	gomigrate "github.com/golang-migrate/migrate/v4"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pgmedic/pgmedic/examples/pool/bun"
	"github.com/pgmedic/pgmedic/examples/pool/gorm"
	"github.com/pgmedic/pgmedic/examples/pool/migrate"
	"github.com/pgmedic/pgmedic/examples/pool/otelpgx"
	"github.com/pgmedic/pgmedic/examples/pool/river"
	"github.com/pgmedic/pgmedic/examples/pool/scany"
	"github.com/pgmedic/pgmedic/examples/pool/sqlc"
	"github.com/pgmedic/pgmedic/examples/pool/sqlc/store"
	"github.com/pgmedic/pgmedic/pool"
)

// TestScanyStructs: rows come back as structs.
func TestScanyStructs(t *testing.T) {
	a := scany.New(clinic(t, pool.Config{}))
	id, err := a.Book(t.Context(), "Ann", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Move(t.Context(), id, 4); err != nil {
		t.Fatal(err)
	}
	list, err := a.InRoom(t.Context(), 4)
	if want := (scany.Appointment{ID: id, Patient: "Ann", Room: 4}); err != nil || len(list) != 1 || list[0] != want {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestOtelpgxSpans: each statement is a span, named without its values, and so is one that
// is tried again; no span has a value. Outside a span there is none.
func TestOtelpgxSpans(t *testing.T) {
	seen := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(seen))
	db := clinic(t, otelpgx.Traced(pool.Config{}, provider))
	a := scany.New(db)
	if _, err := a.Book(t.Context(), "outside a request", 1); err != nil || len(seen.Ended()) != 0 {
		t.Fatalf("%d spans outside a request, %v", len(seen.Ended()), err)
	}
	ctx, request := provider.Tracer("").Start(t.Context(), "a request")
	defer request.End()
	if _, err := a.Book(ctx, "a patient's name", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(ctx, "UPDATE appointments SET patient = 'a literal name'"); err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, span := range seen.Ended() {
		names[span.Name()]++
		if text := fmt.Sprint(span.Name(), span.Attributes(), span.Events(), span.Status()); strings.Contains(text, "a literal name") || strings.Contains(text, "a patient's name") {
			t.Errorf("a span has a value: %s", text)
		}
	}
	for _, want := range []string{
		"query INSERT INTO appointments (patient, room) VALUES ($1, $2) RETURNING id, patient, room",
		"query UPDATE appointments SET patient = ?",
	} {
		if names[want] != 1 {
			t.Errorf("%d spans %q of %v", names[want], want, names)
		}
	}

	id, err := a.Book(ctx, "Ann", 1)
	if err != nil {
		t.Fatal(err)
	}
	once(t, admin(t, db), "appointments", "RAISE EXCEPTION 'a conflict' USING ERRCODE = '40001';")
	before := len(seen.Ended())
	if err := a.Move(ctx, id, 2); err != nil {
		t.Fatal(err)
	}
	updates := 0
	for _, span := range seen.Ended()[before:] {
		if span.Name() == "query UPDATE appointments SET room = $2 WHERE id = $1" {
			updates++
		}
	}
	if updates != 2 {
		t.Errorf("%d spans of an update that was tried twice", updates)
	}
}

// TestSqlcCopy: :copyfrom is one COPY on the pool and in a transaction of it, and refused
// on what Read returns.
func TestSqlcCopy(t *testing.T) {
	db := clinic(t, pool.Config{})
	a := sqlc.New(db)
	rows := []store.ImportParams{{Patient: "Ann", Room: 1}, {Patient: "Ben", Room: 1}}
	if n, err := a.Import(t.Context(), rows); err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	list, err := a.InRoom(t.Context(), 1)
	if err != nil || len(list) != 2 || list[0].Patient != "Ann" || list[1].Patient != "Ben" {
		t.Fatalf("%+v, %v", list, err)
	}
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := store.New(tx).Import(t.Context(), rows); err != nil || n != 2 {
		t.Errorf("in a transaction: %d, %v", n, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	reads := store.New(db.Read(t.Context()))
	if _, err := reads.Import(t.Context(), rows); pool.Classify(err) != pool.ClassReadOnly {
		t.Errorf("an import by Read: %v", err)
	}
	if _, err := reads.Book(t.Context(), store.BookParams{Patient: "Eve", Room: 1}); pool.Classify(err) != pool.ClassReadOnly {
		t.Errorf("a write by Read: %v", err)
	}
	if n := number(t, admin(t, db), "SELECT count(*) FROM appointments"); n != 2 {
		t.Errorf("%d rows", n)
	}
}

// TestRowsOfORMs: bun and gorm read what they wrote.
func TestRowsOfORMs(t *testing.T) {
	db := clinic(t, pool.Config{})
	orm, err := gorm.New(db)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		book func(context.Context, string, int32) (int64, error)
		move func(context.Context, int64, int32) error
		list func(context.Context, int32) (string, error)
	}{
		{"bun", bun.New(db).Book, bun.New(db).Move, func(ctx context.Context, room int32) (string, error) {
			list, err := bun.New(db).InRoom(ctx, room)
			if err != nil || len(list) != 1 {
				return "", fmt.Errorf("%d rows, %w", len(list), err)
			}
			return list[0].Patient, nil
		}},
		{"gorm", orm.Book, orm.Move, func(ctx context.Context, room int32) (string, error) {
			list, err := orm.InRoom(ctx, room)
			if err != nil || len(list) != 1 {
				return "", fmt.Errorf("%d rows, %w", len(list), err)
			}
			return list[0].Patient, nil
		}},
	} {
		id, err := c.book(t.Context(), "O'Neill of "+c.name, 1)
		if err != nil {
			t.Fatal(err)
		}
		room := int32(10 + id)
		if err := c.move(t.Context(), id, room); err != nil {
			t.Fatal(err)
		}
		if patient, err := c.list(t.Context(), room); err != nil || patient != "O'Neill of "+c.name {
			t.Errorf("%s: %q, %v", c.name, patient, err)
		}
	}
}

// TestBunTexts: bun writes values into the texts of its statements, which the pool's log and
// metrics do without, and needs no prepared ones.
func TestBunTexts(t *testing.T) {
	seen := &texts{}
	main := clinic(t, pool.Config{})
	db, err := pool.Open(t.Context(), pool.Config{PrimaryURL: address(t, main) + " default_query_exec_mode=exec", Tracer: seen})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Shutdown(context.WithoutCancel(t.Context())) }()
	if _, err := bun.New(db).Book(t.Context(), "Ann O'Neill", 1); err != nil {
		t.Fatal(err)
	}
	if list, err := bun.New(db).InRoom(t.Context(), 1); err != nil || len(list) != 1 || list[0].Patient != "Ann O'Neill" {
		t.Errorf("%+v, %v", list, err)
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	all := strings.Join(seen.all, "\n")
	if !strings.Contains(all, "O''Neill") || strings.Contains(pool.Normalise(all), "Neill") {
		t.Errorf("%s\n%s", all, pool.Normalise(all))
	}
	if n := number(t, admin(t, main), "SELECT count(*) FROM appointments"); n != 1 {
		t.Errorf("%d rows", n)
	}
}

// texts is a tracer that keeps the texts of statements.
type texts struct {
	mu  sync.Mutex
	all []string
}

func (x *texts) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = append(x.all, data.SQL)
	return ctx
}

func (x *texts) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestMigrateTwice: two instances that start at the same time migrate once, and migrating
// again changes nothing. The pool's handle for database/sql works afterwards.
func TestMigrateTwice(t *testing.T) {
	db := server.OpenWith(t, poolOptions())
	config := pool.Config{PrimaryURL: address(t, db)}
	both := make(chan error, 2)
	for range 2 {
		go func() { both <- migrate.Run(t.Context(), config) }()
	}
	for range 2 {
		if err := <-both; err != nil {
			t.Error(err)
		}
	}
	if err := migrate.Up(t.Context(), db); err != nil {
		t.Errorf("again: %v", err)
	}
	var n int
	if err := db.Stdlib().QueryRowContext(t.Context(), "SELECT count(*) FROM schema_migrations WHERE NOT dirty").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
}

// TestMigrateLimits: a migration runs without the pool's limits on statements.
func TestMigrateLimits(t *testing.T) {
	const migration = "CREATE TABLE seen AS SELECT current_setting('statement_timeout') AS value"
	for name, c := range map[string]struct {
		config func(pool.Config) pool.Config
		want   string
	}{
		"of migrations": {migrate.Config, "0"},
		"of a service":  {func(c pool.Config) pool.Config { return c }, "30s"},
	} {
		t.Run(name, func(t *testing.T) {
			o := poolOptions()
			o.Config = c.config(o.Config)
			db := server.OpenWith(t, o)
			files := fstest.MapFS{"1_seen.up.sql": {Data: []byte(migration)}}
			if err := migrate.UpFrom(t.Context(), db, files, "."); err != nil {
				t.Fatal(err)
			}
			var value string
			if err := db.QueryRow(t.Context(), "SELECT value FROM seen").Scan(&value); err != nil || value != c.want {
				t.Errorf("%q, %v", value, err)
			}
		})
	}
}

// TestMigrateFails: a migration that fails, or that loses its connection, is not tried
// again, and leaves the database marked as dirty. Its error is one that the pool knows, and
// has neither a row nor the migration in it.
func TestMigrateFails(t *testing.T) {
	for name, c := range map[string]struct {
		migration string
		is        func(error) bool
	}{
		"a conflict": {"DO $$ BEGIN RAISE EXCEPTION 'a conflict' USING ERRCODE = '40001', DETAIL = 'a row'; END $$",
			func(err error) bool { return pool.Classify(err) == pool.ClassConflict }},
		"a lost connection": {"DO $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(600); END $$",
			func(err error) bool { return errors.Is(err, pool.ErrOutcomeUnknown) }},
	} {
		t.Run(name, func(t *testing.T) {
			db := server.OpenWith(t, poolOptions())
			files := fstest.MapFS{"1_fails.up.sql": {Data: []byte(c.migration)}}
			err := migrate.UpFrom(t.Context(), db, files, ".")
			if !c.is(err) || strings.Contains(err.Error(), "a row") || strings.Contains(err.Error(), "PERFORM") {
				t.Errorf("%v", err)
			}
			var dirty gomigrate.ErrDirty
			if err := migrate.UpFrom(t.Context(), db, files, "."); !errors.As(err, &dirty) || dirty.Version != 1 {
				t.Errorf("again: %v", err)
			}
		})
	}
}

// TestRiverWork: a job that was inserted with its row is run once, by workers of a plain
// pool, also if the transaction was run twice.
func TestRiverWork(t *testing.T) {
	db := clinic(t, pool.Config{})
	if err := river.Migrate(t.Context(), db, silent()); err != nil {
		t.Fatal(err)
	}
	a, err := river.New(db)
	if err != nil {
		t.Fatal(err)
	}
	reminded := make(chan int64, 10)
	workers, err := river.Start(t.Context(), db, silent(), func(_ context.Context, appointment int64) error {
		reminded <- appointment
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	conn := admin(t, db)
	once(t, conn, "river_job", "RAISE EXCEPTION 'a conflict' USING ERRCODE = '40001';")
	id, err := a.Book(t.Context(), "Ann", 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := <-reminded; got != id {
		t.Errorf("reminded of %d instead of %d", got, id)
	}
	if err := workers.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if jobs, rows := number(t, conn, "SELECT count(*) FROM river_job"), number(t, conn, "SELECT count(*) FROM appointments"); jobs != 1 || rows != 1 || len(reminded) != 0 {
		t.Errorf("%d jobs for %d appointments, and %d more reminders", jobs, rows, len(reminded))
	}
}
