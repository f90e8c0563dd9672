package test

import (
	"database/sql"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	_ "modernc.org/sqlite"

	"github.com/pgmedic/pgmedic/internal/monitor/history"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
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
	idle := testkit.Connect(t, own.DSN("postgres"))
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

// TestHistoryKnowsSinceWhenAnIndexIsUnused forges a look of ten days ago: no
// catalogue tells how old an index is, and only the history can call it unused
// for long, whatever the trends are asked for.
func TestHistoryKnowsSinceWhenAnIndexIsUnused(t *testing.T) {
	own := scratchtest.New(t, scratch.Options{TCP: true, Password: password})
	for _, statement := range []string{
		"CREATE TABLE visits (id int PRIMARY KEY, at int)", "INSERT INTO visits SELECT i, i FROM generate_series(1, 100000) AS i",
		"CREATE INDEX spare ON visits (at)", "ANALYZE visits",
	} {
		if err := executeAt(own.DSN("postgres"), statement); err != nil {
			t.Fatal(err)
		}
	}
	b := newBench(t)
	b.env = b.environ("DATABASE_URL=" + own.URL("postgres"))
	const dropIt = `DROP INDEX CONCURRENTLY "public"."spare";`
	text := b.ok("report", "--no-history", "--json")
	if strings.Contains(text, "DROP INDEX") {
		t.Fatal("the index can be dropped without a past: the test shows nothing")
	}
	old, err := reading.Decode(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	now := old.TakenAt
	old.TakenAt = now.AddDate(0, 0, -10)
	address, err := url.Parse(own.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := history.Open(t.Context(), history.Options{Path: filepath.Join(b.tmp, ".local", "state", "pgmedic", "history.sqlite")})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Add(t.Context(), address.Host, old), h.Close()); err != nil {
		t.Fatal(err)
	}
	if text := b.ok("report", "--since", "1h"); !strings.Contains(text, dropIt) || !strings.Contains(text, "for 10 days") {
		t.Errorf("unused for ten days:\n%s", text)
	}
	// After a crash nobody knows any more.
	if err := executeAt(own.DSN("postgres"), "SELECT pg_stat_reset_shared('bgwriter')"); err != nil {
		t.Fatal(err)
	}
	if text := b.ok("report"); strings.Contains(text, dropIt) {
		t.Errorf("the server's statistics began anew:\n%s", text)
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
