package rescue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestRescueFrozen brings tables back into a database that was made read-only after
// an accident, and that has other settings under which rows can't be loaded.
func TestRescueFrozen(t *testing.T) {
	for name, method := range fixture.Methods(t, 2) {
		t.Run(name, func(t *testing.T) {
			dsn, c, b := fixture.Ward(t, server, method, "CREATE TABLE lists (id int PRIMARY KEY, l text[])", "INSERT INTO lists VALUES (1, ARRAY['a', NULL, '\\x']), (2, NULL)",
				"CREATE TABLE others (LIKE lists) PARTITION BY LIST (id)", "CREATE TABLE others_1 PARTITION OF others DEFAULT", "INSERT INTO others SELECT * FROM lists")
			database := sqltext.QuoteIdent(fixture.Target(t, dsn).Database())
			for _, set := range []string{
				"default_transaction_read_only = on", "array_nulls = off", "default_transaction_isolation = 'serializable'",
				"default_transaction_deferrable = on", "standard_conforming_strings = off", "quote_all_identifiers = on",
				"statement_timeout = '1ms'", "lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'", "search_path = nowhere",
				"default_tablespace = 'pg_global'", "bytea_output = 'escape'", "datestyle = 'SQL, DMY'", "client_encoding = 'LATIN1'",
			} {
				fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+database+" SET "+set)
			}
			done := mustRescue(t, rescueOptions(t, dsn, c, b, "lists", "notes", "others"))
			fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+database+" RESET ALL")
			for _, table := range done.Tables[:1] {
				if got := fixture.Query[string](t, dsn, "SELECT l::text FROM "+table.As+" WHERE id = 1")[0]; got != `{a,NULL,"\\x"}` {
					t.Errorf("%s: %s", table.As, got)
				}
			}
			if len(done.Tables) != 3 || done.Tables[0].Rows != 2 {
				t.Errorf("%+v", done.Tables)
			}
		})
	}
}

// TestRescueForgedSchema: a schema that another role made ahead under the name of a
// rescue's is not written into: its owner could put other rows in the place of those.
func TestRescueForgedSchema(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{})
	schema := mustRescue(t, rescueOptions(t, dsn, c, b, "notes")).Schema
	comment := fixture.Query[string](t, dsn, "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1", schema)[0]
	fixture.Creator(t, server, "schemer")
	fixture.Exec(t, dsn, "DROP SCHEMA "+sqltext.QuoteIdent(schema)+" CASCADE",
		"CREATE SCHEMA "+sqltext.QuoteIdent(schema)+" AUTHORIZATION schemer", "COMMENT ON SCHEMA "+sqltext.QuoteIdent(schema)+" IS "+sqltext.QuoteLiteral(comment))
	t.Cleanup(func() { fixture.Exec(t, dsn, "DROP SCHEMA "+sqltext.QuoteIdent(schema)) })
	_, err := rescue.Run(t.Context(), rescueOptions(t, dsn, c, b, "notes"))
	fixture.WantKind(t, err, pgmedic.KindConflict, schema, `belongs to role "schemer"`)
	if n := fixture.Query[int](t, dsn, "SELECT count(*) FROM pg_class WHERE relnamespace = $1::text::regnamespace", sqltext.QuoteIdent(schema))[0]; n != 0 {
		t.Errorf("there are %d relations in it", n)
	}
}

// TestRescueLocked: who keeps a rescue away is named, and when it was made is by
// the server's clock.
func TestRescueLocked(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{})
	o := rescueOptions(t, dsn, c, b, "notes")
	o.Now = func() time.Time { return time.Now().Add(-24 * time.Hour) }
	done := mustRescue(t, o)
	comment := fixture.Query[string](t, dsn, "SELECT obj_description($1::text::regclass, 'pg_class')", done.Tables[0].As)[0]
	if today, before := time.Now().UTC().Format("2006-01-02"), time.Now().UTC().Add(-time.Hour).Format("2006-01-02"); !strings.Contains(comment, today) && !strings.Contains(comment, before) {
		t.Errorf("the story is %s", comment)
	}
	fixture.Creator(t, server, "holder")
	held := testkit.Connect(t, dsn+" user=holder application_name=mischief")
	got, _, err := databases.TryNamedLock(t.Context(), held, "pgmedic "+done.Schema)
	if !got || err != nil {
		t.Fatal(err)
	}
	_, err = rescue.Run(t.Context(), rescueOptions(t, dsn, c, b, "patients"))
	fixture.WantKind(t, err, pgmedic.KindConflict, "another rescue from backup "+b.ID, `role "holder"`, `application "mischief"`)
	if !strings.Contains(pgmedic.HintOf(err), "pg_terminate_backend(") {
		t.Errorf("hint %s", pgmedic.HintOf(err))
	}
}
