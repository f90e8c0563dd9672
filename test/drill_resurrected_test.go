package test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
)

// The tables into which deleted rows come back: of the first an index knows better, of the
// second nothing does.
const (
	indexedGhosts = "ghosts"
	unseenGhosts  = "unseen"
)

// resurrect brings deleted rows back on the disk of the source, as PostgreSQL's own merge of
// incremental backups does (a truncated table keeps pages of the older backup): pages with
// rows that were deleted and vacuumed away are put behind the end of their tables again. Each
// page is right, checksum included.
func (b *walBench) resurrect() {
	b.t.Helper()
	for _, table := range []string{indexedGhosts, unseenGhosts} {
		b.sql("CREATE TABLE " + table + " AS SELECT g AS n, repeat('g', 400) AS t FROM generate_series(1, 2000) AS g")
		if table == indexedGhosts {
			b.sql("ALTER TABLE " + table + " ADD PRIMARY KEY (n)")
		}
		b.sql("VACUUM " + table)
		b.sql("CHECKPOINT")
		path := filepath.Join(b.server.DataDir(), b.ask("SELECT pg_relation_filepath('"+table+"')"))
		was := readFile(b.t, path)
		b.sql("DELETE FROM " + table + " WHERE n > 1000")
		b.sql("VACUUM " + table)
		b.sql("CHECKPOINT")
		now := readFile(b.t, path)
		if len(now) == 0 || len(now) >= len(was) {
			b.t.Fatalf("VACUUM left %d of %d bytes of %s", len(now), len(was), table)
		}
		if err := os.WriteFile(path, append(bytes.Clone(now), was[len(now):]...), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

// resurrectedConfig is a configuration whose assertion counts the rows that nothing else knows.
func (b *walBench) resurrectedConfig() (path string) {
	b.t.Helper()
	path = filepath.Join(b.tmp, "resurrected.yaml")
	text := "drill:\n  assertions:\n    - {name: unseen, sql: SELECT count(*) FROM " + unseenGhosts + ", expect: 1000}\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.reader = append(b.reader, "DATABASE_URL="+b.server.URL("postgres"))
	return path
}

// wantResurrected holds a receipt against the rows that came back: an index shows them, and
// without one nothing but an assertion does, which docs/limits.md says.
func wantResurrected(t *testing.T, r pgmedic.Receipt) {
	t.Helper()
	if o, detail := outcomeOf(r, `indexes of "postgres"`); o != pgmedic.OutcomeFailed || !strings.Contains(detail, indexedGhosts) {
		t.Errorf("rows that came back, by amcheck: %q %s", o, detail)
	}
	if o, detail := outcomeOf(r, `index-only scans of "postgres"`); o != pgmedic.OutcomeFailed || !strings.Contains(detail, indexedGhosts+": ") {
		t.Errorf("rows that came back, counted in two ways: %q %s", o, detail)
	}
	if o, detail := outcomeOf(r, "assertion unseen"); o != pgmedic.OutcomeFailed {
		t.Errorf("rows that came back, by an assertion: %q %s", o, detail)
	}
	for _, c := range r.Checks {
		if c.Name != "assertion unseen" && strings.Contains(c.Detail+strings.Join(c.Items, " "), unseenGhosts) {
			t.Errorf("%s finds rows that came back into a table without an index: say so in docs/limits.md: %s", c.Name, c.Detail)
		}
	}
}
