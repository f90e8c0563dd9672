package drill_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// mutant is a copy in which one thing is changed.
type mutant struct {
	t    *testing.T
	conn *pgx.Conn
	pick *rand.Rand
}

// mutation is a kind of change. It returns what it changed, and where that is
// not looked at, words of a check that says so.
type mutation func(m *mutant) (what, unchecked string)

// TestMutations changes one thing at a time in copies of the torture database that a
// restore made, and holds them against the backup as a drill does: everything is
// found, or named as not checked.
func TestMutations(t *testing.T) {
	times := testkit.Amount(1, 1, 100)
	source := fixture.Torture(t, server, "mutations "+fixture.Name(t, server))
	// A copy made from a template has none.
	for _, name := range fixture.Query[string](t, source.DSN(), "SELECT quote_ident(subname) FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())") {
		fixture.Exec(t, source.DSN(), "ALTER SUBSCRIPTION "+name+" DISABLE", "ALTER SUBSCRIPTION "+name+" SET (slot_name = NONE)", "DROP SUBSCRIPTION "+name)
	}
	for _, method := range testkit.SomeOf(t, 1, []backup.Method{backup.Parallel{Jobs: 2}, backup.Plain{}}) {
		t.Run(string(method.Name()), func(t *testing.T) {
			c := fixture.NewCatalog(t)
			taking := fixture.BackupOptions(t, source.DSN(), c)
			taking.Method = method
			b, err := backup.Take(t.Context(), taking)
			if err != nil {
				t.Fatal(err)
			}
			into := fixture.RestoreOptions(t, server, c, b, fixture.Name(t, server))
			loaded, err := restore.Load(t.Context(), into)
			if err != nil {
				t.Fatal(err)
			}
			fixture.Exec(t, server.DSN("postgres"), "COMMENT ON DATABASE "+into.Into+" IS NULL")
			o := options(t, c, b)
			if receipt := checkMutant(t, o, into.Into, loaded, nil); receipt.Outcome == pgmedic.OutcomeFailed {
				t.Fatalf("without a change: %+v", receipt.Checks)
			}
			// A campaign finds new changes; else they are the same each time.
			seed := uint64(1)
			if testkit.Amount(0, 0, 1) == 1 {
				seed = rand.Uint64()
			}
			t.Logf("seed %d", seed)
			kinds := mutations()
			for i, kind := range slices.Sorted(maps.Keys(kinds)) {
				pick := rand.New(rand.NewPCG(seed, uint64(i)))
				for n := range times {
					what, unchecked := "", ""
					receipt := checkMutant(t, o, into.Into, loaded, func(conn *pgx.Conn) {
						if _, err := conn.Exec(t.Context(), "SELECT setseed($1)", pick.Float64()); err != nil {
							t.Fatal(err)
						}
						what, unchecked = kinds[kind](&mutant{t, conn, pick})
					})
					said := fmt.Sprintf("%+v", receipt.Checks)
					_, found := receipt.Failed()
					switch {
					case unchecked != "" && !strings.Contains(said, unchecked):
						t.Errorf("%s %d: %s: neither found nor named as unchecked: %s", kind, n, what, said)
					case unchecked == "" && !found:
						t.Errorf("%s %d: %s: not found: %s", kind, n, what, said)
					}
				}
			}
		})
	}
}

// checkMutant copies a restored database, changes the copy, and checks it.
func checkMutant(t *testing.T, o drill.Options, restored string, loaded *restore.Loaded, change func(*pgx.Conn)) *pgmedic.Receipt {
	t.Helper()
	name := fixture.Name(t, server)
	admin := testkit.Connect(t, server.DSN("postgres"))
	database := o.Backup.Database
	fixture.Exec(t, server.DSN("postgres"), fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s OWNER %s", name, restored, sqltext.QuoteIdent(database.Owner)))
	defer fixture.Exec(t, server.DSN("postgres"), "DROP DATABASE "+name+" WITH (FORCE)")
	if _, err := databases.ApplySettings(t.Context(), admin, name, database); err != nil {
		t.Fatal(err)
	}
	if err := databases.ApplyAccess(t.Context(), admin, name, database); err != nil {
		t.Fatal(err)
	}
	if err := databases.ApplyLabels(t.Context(), admin, name, database); err != nil {
		t.Fatal(err)
	}
	_ = admin.Close(t.Context())
	if change != nil {
		conn := testkit.Connect(t, server.DSN(name))
		for _, sql := range []string{
			"SET session_replication_role = replica", "SET allow_system_table_mods = on", "SET search_path = ''", "SET row_security = off",
			"SET statement_timeout = 0", "SET default_transaction_read_only = off", "SET check_function_bodies = off",
		} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		change(conn)
		_ = conn.Close(t.Context())
	}
	receipt, err := drill.CheckCopy(t.Context(), o, fixture.Target(t, server.DSN("postgres")), name, loaded.RefusedSettings)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// choose returns a row of a query at random.
func choose[T any](m *mutant, sql string) (one T) {
	m.t.Helper()
	rows, err := m.conn.Query(m.t.Context(), sql)
	if err != nil {
		m.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	if err != nil || len(all) == 0 {
		m.t.Fatalf("nothing to choose from %s: %v", sql, err)
	}
	return all[m.pick.IntN(len(all))]
}

// try runs statements in a transaction, each of which has to touch a row where it is
// one that can; it reports whether all were taken.
func (m *mutant) try(statements ...string) bool {
	m.t.Helper()
	tx, err := m.conn.Begin(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, sql := range statements {
		tag, err := tx.Exec(m.t.Context(), sql)
		touches := tag.Insert() || tag.Update() || tag.Delete()
		if err != nil || touches && tag.RowsAffected() == 0 {
			_ = tx.Rollback(m.t.Context())
			return false
		}
	}
	return tx.Commit(m.t.Context()) == nil
}

// first tries changes of something chosen anew each time until one is taken.
func (m *mutant) first(choose func() (what string, ways [][]string)) string {
	m.t.Helper()
	for range 300 {
		what, ways := choose()
		for _, statements := range ways {
			if m.try(statements...) {
				return what + ": " + statements[len(statements)-1]
			}
		}
	}
	m.t.Fatal("nothing could be changed")
	return ""
}

type column struct {
	Table, Name string
	OID         uint32
	Attnum      int16
}

// columnsSQL lists the columns of tables with rows of their own, all partitions by
// themselves; extensions' tables are not compared.
const columnsSQL = `
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS table, quote_ident(a.attname) AS name, c.oid AS oid, a.attnum AS attnum
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
	JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema)' AND a.attgenerated = '%s' AND pg_relation_size(c.oid) > 0
	AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2`

// anotherValue are ways to change a value of a column: to that of another row, to
// none, and where both are refused, with the row.
func anotherValue(c column) [][]string {
	ways := []string{
		`WITH old AS (SELECT ctid, %[2]s AS v FROM ONLY %[1]s ORDER BY random() LIMIT 1),
			new AS (SELECT t.%[2]s AS v FROM ONLY %[1]s AS t, old WHERE t.%[2]s::text IS DISTINCT FROM old.v::text LIMIT 1)
		UPDATE ONLY %[1]s AS t SET %[2]s = new.v FROM old, new WHERE t.ctid = old.ctid`,
		`UPDATE ONLY %[1]s SET %[2]s = NULL WHERE ctid = (SELECT ctid FROM ONLY %[1]s WHERE %[2]s IS DISTINCT FROM NULL AND %[2]s::text IS NOT NULL LIMIT 1)`,
	}
	all := make([][]string, len(ways))
	for i, way := range ways {
		all[i] = []string{fmt.Sprintf(way, c.Table, c.Name)}
	}
	return all
}

// mutations are the kinds of change.
func mutations() map[string]mutation {
	return map[string]mutation{
		"value": func(m *mutant) (string, string) {
			return m.first(func() (string, [][]string) {
				c := choose[column](m, fmt.Sprintf(columnsSQL, ""))
				return c.Table, append(anotherValue(c), []string{"DELETE FROM ONLY " + c.Table + " WHERE ctid = (SELECT ctid FROM ONLY " + c.Table + " LIMIT 1)"})
			}), ""
		},
		"generated value": func(m *mutant) (string, string) {
			return m.first(func() (string, [][]string) {
				c := choose[column](m, fmt.Sprintf(columnsSQL, "s"))
				generated := func(to string) string {
					return fmt.Sprintf("UPDATE pg_attribute SET attgenerated = '%s' WHERE attrelid = %d AND attnum = %d", to, c.OID, c.Attnum)
				}
				ways := anotherValue(c)
				for i, way := range ways {
					ways[i] = slices.Concat([]string{generated("")}, way, []string{generated("s")})
				}
				return c.Table + "." + c.Name, ways
			}), ""
		},
		"index entry": indexEntry,
		"definition": func(m *mutant) (string, string) {
			return m.first(func() (string, [][]string) {
				c := choose[column](m, fmt.Sprintf(columnsSQL, ""))
				all := []string{
					"COMMENT ON TABLE %[1]s IS 'another'", "COMMENT ON COLUMN %[1]s.%[2]s IS 'another'", "ALTER TABLE %[1]s SET (fillfactor = 77)",
					"ALTER TABLE %[1]s ALTER %[2]s SET STATISTICS 17", "ALTER TABLE %[1]s ALTER %[2]s SET NOT NULL", "ALTER TABLE %[1]s ALTER %[2]s DROP NOT NULL",
					"ALTER TABLE %[1]s ALTER %[2]s DROP DEFAULT", "CREATE INDEX ON %[1]s ((%[2]s IS NULL))", "ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY",
					"ALTER TABLE %[1]s REPLICA IDENTITY FULL", "CREATE STATISTICS public.another ON (%[2]s IS NULL), (%[2]s IS NOT NULL) FROM %[1]s",
					"ALTER TABLE %[1]s ADD CHECK (%[2]s IS NULL) NOT VALID", "ALTER TABLE %[1]s RENAME %[2]s TO another", "CREATE RULE another AS ON UPDATE TO %[1]s DO ALSO NOTHING",
				}
				sql := fmt.Sprintf(all[m.pick.IntN(len(all))], c.Table, c.Name)
				before := m.definitions()
				if !m.try(sql) || before == m.definitions() {
					return sql, nil // refused, or so already
				}
				return sql, [][]string{{"SELECT 1"}}
			}), ""
		},
		"setting": func(m *mutant) (string, string) {
			return m.first(func() (string, [][]string) {
				all := []string{
					"work_mem = '77MB'", "timezone = 'Pacific/Chatham'", "datestyle = 'German'", "search_path = pg_catalog", "statement_timeout = 77000",
					"default_text_search_config = 'pg_catalog.danish'", "app.other = 'x'", "jit = off", "lock_timeout = 77",
				}
				one := all[m.pick.IntN(len(all))]
				to := "DATABASE"
				if m.pick.IntN(2) == 0 {
					to = "ROLE postgres IN DATABASE"
				}
				return one, [][]string{{fmt.Sprintf("DO $$ BEGIN EXECUTE format('ALTER %s %%I SET %s', current_database()); END $$", to, strings.ReplaceAll(one, "'", "''"))}}
			}), ""
		},
		"privilege": func(m *mutant) (string, string) {
			return m.first(func() (string, [][]string) {
				type object struct{ Kind, Name, Privilege string }
				o := choose[object](m, `
SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid::regclass::text AS name, 'SELECT' AS privilege FROM pg_class AS c
	JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f', 'S') AND n.nspname !~ '^(pg_|information_schema)'
UNION ALL SELECT 'SCHEMA', quote_ident(nspname), 'USAGE' FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'
UNION ALL SELECT 'ROUTINE', p.oid::regprocedure::text, 'EXECUTE' FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname !~ '^(pg_|information_schema)'
	AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i') -- of range types: docs/drills.md
UNION ALL VALUES ('TABLE', 'pg_catalog.pg_stat_activity', 'SELECT'), ('ROUTINE', 'pg_catalog.pg_sleep(float8)', 'EXECUTE'), ('TABLE', 'pg_catalog.pg_authid', 'SELECT')
UNION ALL SELECT 'LARGE OBJECT', oid::text, 'SELECT' FROM pg_largeobject_metadata
UNION ALL SELECT 'LANGUAGE', quote_ident(lanname), 'USAGE' FROM pg_language WHERE lanpltrusted
UNION ALL SELECT 'TYPE', t.oid::regtype::text, 'USAGE' FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
	WHERE n.nspname !~ '^(pg_|information_schema)' AND t.typtype IN ('d', 'e')
ORDER BY 1, 2`)
				for _, sql := range []string{
					fmt.Sprintf("GRANT %s ON %s %s TO PUBLIC WITH GRANT OPTION", o.Privilege, o.Kind, o.Name), // never taken: PUBLIC can't have it
					fmt.Sprintf("REVOKE %s ON %s %s FROM PUBLIC", o.Privilege, o.Kind, o.Name),
					fmt.Sprintf("GRANT %s ON %s %s TO PUBLIC", o.Privilege, o.Kind, o.Name),
					fmt.Sprintf("GRANT %s ON %s %s TO pg_monitor", o.Privilege, o.Kind, o.Name),
				} {
					before := m.definitions()
					if m.try(sql) && before != m.definitions() {
						return sql, [][]string{{"SELECT 1"}}
					}
				}
				return "", nil
			}), ""
		},
		"sequence": func(m *mutant) (string, string) {
			return m.first(func() (string, [][]string) {
				type sequence struct{ Name string }
				s := choose[sequence](m, `SELECT c.oid::regclass::text AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
					WHERE c.relkind = 'S' AND n.nspname !~ '^(pg_|information_schema)' AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY 1`)
				ways := [][]string{
					{"SELECT nextval(" + sqltext.QuoteLiteral(s.Name) + ")"},
					{"SELECT setval(" + sqltext.QuoteLiteral(s.Name) + ", last_value + 1, is_called) FROM " + s.Name},
					{"SELECT setval(" + sqltext.QuoteLiteral(s.Name) + ", last_value, NOT is_called) FROM " + s.Name},
				}
				m.pick.Shuffle(len(ways), func(i, j int) { ways[i], ways[j] = ways[j], ways[i] })
				return s.Name, ways
			}), ""
		},
		"large object": func(m *mutant) (string, string) {
			return m.first(func() (string, [][]string) {
				type object struct{ OID uint32 }
				o := choose[object](m, "SELECT oid FROM pg_largeobject_metadata ORDER BY 1")
				ways := []string{
					"SELECT lo_put(%[1]d, length(lo_get(%[1]d)), 'x')", "SELECT lo_put(%[1]d, 0, CASE WHEN lo_get(%[1]d, 0, 1) = 'x' THEN 'y' ELSE 'x' END::bytea)",
					"SELECT lo_unlink(%[1]d)",
				}
				return strconv.FormatUint(uint64(o.OID), 10), [][]string{{fmt.Sprintf(ways[m.pick.IntN(len(ways))], o.OID)}}
			}), ""
		},
	}
}

// definitions are all definitions as the inventory has them, and all access lists.
func (m *mutant) definitions() string {
	m.t.Helper()
	conn, err := postgres.Connect(m.t.Context(), fixture.Target(m.t, server.DSN(m.conn.Config().Database)))
	if err != nil {
		m.t.Fatal(err)
	}
	defer postgres.Close(m.t.Context(), conn)
	type text struct{ All string }
	rows, err := conn.Query(m.t.Context(), `
SELECT md5(string_agg(t, '|' ORDER BY t)) AS all FROM (
	SELECT format('%s %s %s %s %s %s', c.oid, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)), c.reloptions, c.relrowsecurity, c.relreplident, pg_get_viewdef(c.oid)) AS t FROM pg_class AS c WHERE c.relkind <> 'i'
	UNION ALL SELECT format('%s %s %s %s %s %s', attrelid, attname, attnotnull, attstattarget, atthasdef, attacl) FROM pg_attribute WHERE attnum > 0
	UNION ALL SELECT oid::text FROM pg_class UNION ALL SELECT oid::text FROM pg_constraint UNION ALL SELECT oid::text FROM pg_rewrite
	UNION ALL SELECT format('%s %s', oid, coalesce(nspacl, acldefault('n', nspowner))) FROM pg_namespace UNION ALL SELECT format('%s %s', oid, coalesce(proacl, acldefault('f', proowner))) FROM pg_proc
	UNION ALL SELECT format('%s %s', oid, coalesce(typacl, acldefault('T', typowner))) FROM pg_type UNION ALL SELECT format('%s %s', oid, coalesce(lanacl, acldefault('l', lanowner))) FROM pg_language
	UNION ALL SELECT format('%s %s', oid, coalesce(lomacl, acldefault('L', lomowner))) FROM pg_largeobject_metadata
	UNION ALL SELECT format('%s %s %s %s', objoid, classoid, objsubid, description) FROM pg_description
) AS d`)
	if err != nil {
		m.t.Fatal(err)
	}
	all, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[text])
	if err != nil {
		m.t.Fatal(err)
	}
	return all.All
}

// indexEntry takes a row's entry out of one index: the row is put in again while
// the index is not kept.
func indexEntry(m *mutant) (string, string) {
	unchecked := ""
	what := m.first(func() (string, [][]string) {
		type index struct {
			OID                          uint32
			Name, Table, Method, Columns string
		}
		i := choose[index](m, `
SELECT i.indexrelid AS oid, i.indexrelid::regclass::text AS name, i.indrelid::regclass::text AS table, a.amname::text AS method,
	(SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute WHERE attrelid = i.indrelid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS columns
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS a ON a.oid = c.relam
	JOIN pg_class AS t ON t.oid = i.indrelid JOIN pg_namespace AS n ON n.oid = t.relnamespace
WHERE n.nspname !~ '^(pg_|information_schema)' AND t.relkind = 'r' AND c.relkind = 'i' AND i.indpred IS NULL AND i.indisvalid AND pg_relation_size(t.oid) > 0
	AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = i.indrelid AND attnum > 0 AND NOT attisdropped AND attgenerated = '')
ORDER BY 2`)
		ready := func(is bool) string {
			return fmt.Sprintf("UPDATE pg_index SET indisready = %v WHERE indexrelid = %d", is, i.OID)
		}
		unchecked = ""
		if i.Method != "btree" {
			unchecked = i.Method
		}
		again := fmt.Sprintf("WITH gone AS (DELETE FROM ONLY %[1]s WHERE ctid = (SELECT ctid FROM ONLY %[1]s ORDER BY random() LIMIT 1) RETURNING %[2]s) "+
			"INSERT INTO %[1]s (%[2]s) OVERRIDING SYSTEM VALUE SELECT %[2]s FROM gone", i.Table, i.Columns)
		// Each in a transaction of its own: what one says of the catalogue is heard
		// when it ends.
		if !m.try(ready(false)) {
			return "", nil
		}
		if !m.try(again) {
			m.try(ready(true))
			return "", nil
		}
		return i.Name, [][]string{{ready(true)}}
	})
	return what, unchecked
}
