// Package examples_test runs the examples on a real server, and holds the table of
// docs/pool.md on libraries to what they do.
package examples_test

import (
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"

	"github.com/pgmedic/pgmedic/examples/pool/migrate"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
	"github.com/pgmedic/pgmedic/pool/pooltest"
)

// server is the PostgreSQL on which each test has a database.
var server *pooltest.Server

func TestMain(m *testing.M) {
	os.Exit(pooltest.Main(m, func(s *pooltest.Server) { server = s }))
}

// silent is a logger for what logs much.
func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// clinic opens a pool on a new database that has the migrations.
func clinic(t *testing.T, c pool.Config) *pool.DB {
	t.Helper()
	// Waits are bounded by those of pooltest, so that a busy machine fails no test.
	c.AcquireTimeout, c.HealthInterval, c.RetryDelay = time.Minute, time.Minute, 10*time.Millisecond
	c.QueryTimeout, c.ConnectTimeout = time.Minute, time.Minute
	db := server.OpenWith(t, pooltest.Options{Config: c, Grace: time.Minute})
	if err := migrate.Up(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db
}

// admin is a session in the database of a pool that is none of the pool's.
func admin(t *testing.T, db *pool.DB) *pgx.Conn {
	t.Helper()
	return testkit.Connect(t, address(t, db))
}

// address is the connection string of a pool's database.
func address(t *testing.T, db *pool.DB) string {
	t.Helper()
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	c := conn.Conn().Config()
	return fmt.Sprintf("host='%s' port=%d user='%s' dbname='%s' sslmode=disable", c.Host, c.Port, c.User, c.Database)
}

// run runs statements in a session.
func run(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// number is the number that a query gives.
func number(t *testing.T, conn *pgx.Conn, query string, args ...any) (n int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// with returns a configuration with one more tracer.
func with(c pool.Config, tracer pgx.QueryTracer) pool.Config {
	if c.Tracer != nil {
		tracer = multitracer.New(c.Tracer, tracer)
	}
	c.Tracer = tracer
	return c
}

// poolOptions are those of a pool on an empty database.
func poolOptions() pooltest.Options {
	return pooltest.Options{Config: pool.Config{AcquireTimeout: time.Minute, ConnectTimeout: time.Minute, HealthInterval: time.Minute}, Grace: time.Minute}
}
