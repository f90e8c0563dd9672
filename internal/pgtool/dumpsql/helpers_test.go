package dumpsql_test

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var server *scratch.Server

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, scratch.Options{TCP: true}, func(s *scratch.Server) { server = s }))
}

// database makes a database and a session with it.
func database(t *testing.T) (postgres.Target, *pgx.Conn) {
	t.Helper()
	target, err := postgres.ParseTarget(scratchtest.Database(t, server))
	if err != nil {
		t.Fatal(err)
	}
	conn := testkit.Connect(t, target.Conninfo())
	return target, conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

// tool finds a real client program that works with the server.
func tool(t *testing.T, name string) pgtool.Tool {
	t.Helper()
	found, err := pgtool.Finder{Dirs: []string{server.BinDir()}}.Find(t.Context(), name, server.Major())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// secret stands in rows, and must never stand in an error.
const secret = "123-45-6789"

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
