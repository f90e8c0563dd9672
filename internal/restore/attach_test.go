package restore_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestAttachesAlone: the indexes of partitions of partitions are attached one after the
// other, after all are built and before the foreign keys that need them. Two sessions that
// attach at once on two levels can leave the index at the top invalid.
func TestAttachesAlone(t *testing.T) {
	attached := []string{"attach", "attach", "attach", "attach", "attach"}
	t.Run("and foreign keys and triggers", func(t *testing.T) {
		attaches(t, append(attached, "foreign key", "comment", "trigger"),
			"CREATE TABLE fk (a int REFERENCES pk)", "COMMENT ON CONSTRAINT fk_a_fkey ON fk IS 'kept'",
			"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
			"CREATE TRIGGER tr BEFORE INSERT ON fk FOR EACH ROW EXECUTE FUNCTION f()", "INSERT INTO fk SELECT a FROM pk")
	})
	t.Run("and nothing else", func(t *testing.T) { attaches(t, attached) })
}

// attaches restores partitions of partitions, and what else the statements make, and holds
// the order in which the server was told against the one wanted.
func attaches(t *testing.T, want []string, statements ...string) {
	t.Helper()
	own := scratchtest.New(t, scratch.Options{Settings: map[string]string{"log_statement": "ddl", "log_line_prefix": "session %p "}})
	source := fixture.Place{Server: own, Database: fixture.Name(t, own)}
	fixture.Exec(t, own.DSN("postgres"), "CREATE DATABASE "+source.Database)
	fixture.Exec(t, source.DSN(),
		"CREATE TABLE pk (a int PRIMARY KEY) PARTITION BY RANGE (a)",
		"CREATE TABLE pk1 PARTITION OF pk FOR VALUES FROM (0) TO (10)",
		"CREATE TABLE pk2 PARTITION OF pk FOR VALUES FROM (10) TO (20)",
		"CREATE TABLE pk3 PARTITION OF pk FOR VALUES FROM (20) TO (40) PARTITION BY RANGE (a)",
		"CREATE TABLE pk31 PARTITION OF pk3 FOR VALUES FROM (20) TO (30)",
		"CREATE TABLE pk32 PARTITION OF pk3 FOR VALUES FROM (30) TO (40)",
		"INSERT INTO pk SELECT generate_series(0, 39)",
		// To be refreshed it needs the key to be valid, of which its entry says nothing.
		"CREATE FUNCTION admit() RETURNS int LANGUAGE sql AS 'INSERT INTO public.pk VALUES (0) ON CONFLICT (a) DO NOTHING; SELECT 1'",
		"CREATE MATERIALIZED VIEW m AS SELECT admit()")
	fixture.Exec(t, source.DSN(), statements...)
	c := fixture.NewCatalog(t)
	o := fixture.BackupOptions(t, source.DSN(), c)
	o.Method = backup.Parallel{Jobs: 2}
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	before, err := own.Log()
	if err != nil {
		t.Fatal(err)
	}
	into := fixture.RestoreOptions(t, own, c, b, fixture.Name(t, own))
	into.Jobs = 4
	done, err := restore.Into(t.Context(), into)
	if err != nil {
		t.Fatal(err)
	}
	if err := done.Degraded(); err != nil {
		t.Error(err)
	}
	if got := fixture.Query[int64](t, own.DSN(into.Into), "SELECT count(*) FROM m")[0]; got != 1 {
		t.Errorf("%d rows in the materialized view", got)
	}
	log, err := own.Log()
	if err != nil {
		t.Fatal(err)
	}
	var order, sessions []string
	for line := range strings.Lines(log[len(before):]) {
		switch {
		case strings.Contains(line, "ALTER INDEX") && strings.Contains(line, "ATTACH PARTITION public.pk"):
			order = append(order, "attach")
			sessions = append(sessions, strings.Fields(line)[1])
		case strings.Contains(line, "ADD CONSTRAINT") && strings.Contains(line, "FOREIGN KEY"):
			order = append(order, "foreign key")
		case strings.Contains(line, "CREATE TRIGGER"):
			order = append(order, "trigger")
		case strings.Contains(line, "COMMENT ON CONSTRAINT fk_a_fkey"):
			order = append(order, "comment")
		}
	}
	if !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
	slices.Sort(sessions)
	if sessions = slices.Compact(sessions); len(sessions) != 1 {
		t.Errorf("indexes were attached by sessions %q", sessions)
	}
}
