package postgres_test

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

var server *scratch.Server

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, scratch.Options{
		// The tests of poolers run side by side, and have more than 200 sessions.
		TCP: true, Settings: map[string]string{"wal_level": "logical", "max_prepared_transactions": "5", "max_connections": "400"},
	}, func(s *scratch.Server) { server = s }))
}

// database makes a database and opens a session with it.
func database(t *testing.T) (postgres.Target, *pgx.Conn) {
	t.Helper()
	target := postgrestest.Parse(t, scratchtest.Database(t, server))
	return target, postgrestest.Connect(t, target)
}

// admin opens a session with the maintenance database.
func admin(t *testing.T) (postgres.Target, *pgx.Conn) {
	t.Helper()
	target := postgrestest.Parse(t, server.DSN("postgres"))
	return target, postgrestest.Connect(t, target)
}
