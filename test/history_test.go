package test

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"
	_ "modernc.org/sqlite"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// TestHistoryHoldsNoLiterals plants secrets where statements show them, and
// looks for them in all that the history keeps.
func TestHistoryHoldsNoLiterals(t *testing.T) {
	const secret = "jane-doe-1980"
	own := scratchtest.New(t, scratch.Options{TCP: true, Password: password, Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"}})
	for _, statement := range []string{
		"CREATE EXTENSION pg_stat_statements", "CREATE TABLE patients (name text, ssn text)",
		"INSERT INTO patients VALUES ('" + secret + "', '" + secret + "')",
		"SELECT pg_sleep(0.2) FROM patients WHERE name = '" + secret + "'",
		"DO $$ BEGIN PERFORM '" + secret + "'; END $$",
		"COPY (SELECT '" + secret + "') TO '/dev/null'",
		"CREATE ROLE jane PASSWORD '" + secret + "'",
	} {
		if err := executeAt(own.DSN("postgres"), statement); err != nil {
			t.Fatal(err)
		}
	}
	idle, err := pgx.Connect(t.Context(), own.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = idle.Close(t.Context()) }()
	if _, err := idle.Exec(t.Context(), "BEGIN; UPDATE patients SET ssn = '"+secret+"'"); err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	b.env = b.environ("DATABASE_URL=" + own.URL("postgres"))
	b.ok("report")
	b.ok("report", "--interval", "1s")
	b.ok("report", "--show-literals")
	b.ok("report", "--all-databases")

	texts := kept(t, filepath.Join(b.tmp, ".local", "state", "pgmedic", "history.sqlite"))
	patients := false
	for _, text := range texts {
		if strings.Contains(text, secret) {
			i := strings.Index(text, secret)
			t.Errorf("the history holds %q", text[max(0, i-200):i])
		}
		patients = patients || strings.Contains(text, "FROM patients") && strings.Contains(text, "UPDATE patients")
	}
	if !patients {
		t.Error("no statement was kept at all: the test shows nothing")
	}
}

// kept returns every reading and outline in a history, decompressed.
func kept(t *testing.T, path string) (texts []string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	unzip, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unzip.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT reading FROM whole UNION ALL SELECT detail FROM whole UNION ALL SELECT outline FROM reading")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var packed []byte
		if err := rows.Scan(&packed); err != nil {
			t.Fatal(err)
		}
		text, err := unzip.DecodeAll(packed, nil)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return texts
}
