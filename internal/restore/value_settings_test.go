package restore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// notInForce are the settings that a database may have and that are not in force
// while it is loaded, and why.
func notInForce() map[string]string {
	const (
		hinders = "would end or hinder the sessions that load; set when all is there"
		ours    = "pgmedic, pg_restore or psql sets it for the sessions that load"
		reads   = "rows and definitions would be read wrongly"
	)
	return map[string]string{
		"array_nulls": reads, "standard_conforming_strings": reads, "client_encoding": reads,
		"application_name": ours, "client_min_messages": ours, "jit": ours, "quote_all_identifiers": ours, "row_security": ours,
		"search_path": ours, "synchronous_commit": ours, "xmloption": ours,
		"restrict_nonsystem_relation_kind": ours,
		"default_transaction_deferrable":   hinders, "default_transaction_isolation": hinders, "default_transaction_read_only": hinders,
		"exit_on_error": hinders, "idle_in_transaction_session_timeout": hinders, "idle_session_timeout": hinders,
		"lock_timeout": hinders, "statement_timeout": hinders, "transaction_timeout": hinders,
	}
}

// TestEverySettingIsInForce gives a database another value for every setting that
// a session may change, and has a generated column say what it was when its row
// came, an index and a materialized view what it was when they were made.
func TestEverySettingIsInForce(t *testing.T) {
	for name, method := range fixture.Methods(t, 2) {
		t.Run(name, func(t *testing.T) {
			dsn := scratchtest.Database(t, server)
			database := fixture.Query[string](t, dsn, "SELECT current_database()::text")[0]
			fixture.Exec(t, dsn, `CREATE FUNCTION setting_of(name text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT pg_catalog.current_setting($1, true)'`)
			changed := changeSettings(t, dsn, database)
			if len(changed) < 60 {
				t.Fatalf("only %d settings were changed: %v", len(changed), changed)
			}
			quoted := make([]string, len(changed))
			for i, name := range changed {
				quoted[i] = sqltext.QuoteLiteral(name)
			}
			fixture.Exec(t, dsn, "SET default_transaction_read_only = off",
				"CREATE TABLE said (name text, value text GENERATED ALWAYS AS (setting_of(name)) STORED)",
				"INSERT INTO said SELECT unnest(ARRAY["+strings.Join(quoted, ", ")+"])",
				"CREATE MATERIALIZED VIEW seen AS SELECT name, setting_of(name) AS value FROM said")
			c := fixture.NewCatalog(t)
			o := fixture.BackupOptions(t, dsn, c)
			o.Method = method
			b, err := backup.Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			into := fixture.Name(t, server)
			if _, err := restore.Load(t.Context(), fixture.RestoreOptions(t, server, c, b, into)); err != nil {
				t.Fatal(err)
			}
			for _, relation := range []string{"said", "seen"} {
				const list = "SELECT name || '=' || coalesce(value, 'null') FROM %s ORDER BY 1"
				want := fixture.Query[string](t, dsn, fmt.Sprintf(list, relation))
				got := fixture.Query[string](t, server.DSN(into), fmt.Sprintf(list, relation))
				for i, w := range want {
					name, _, _ := strings.Cut(w, "=")
					if i < len(got) && got[i] == w {
						continue
					}
					if _, known := notInForce()[name]; !known {
						t.Errorf("%s: the source has %s, the copy does not: %q", relation, w, got[min(i, len(got)-1)])
					}
				}
			}
		})
	}
}

// changeSettings gives the database another value of all settings that a session
// may change, as far as the server takes one, and returns their names.
func changeSettings(t *testing.T, dsn, database string) (changed []string) {
	t.Helper()
	type setting struct{ name, value string }
	var all []setting
	for _, line := range fixture.Query[string](t, dsn, `SELECT name || '=' || CASE
			WHEN vartype = 'bool' THEN CASE setting WHEN 'on' THEN 'off' ELSE 'on' END
			WHEN vartype = 'enum' THEN (SELECT v FROM unnest(enumvals) AS v WHERE v <> setting ORDER BY v LIMIT 1)
			WHEN vartype IN ('integer', 'real') THEN CASE WHEN setting = max_val THEN min_val
				WHEN setting::numeric + 1 <= max_val::numeric AND unit IS DISTINCT FROM 'ms' THEN (setting::numeric + 1)::text ELSE max_val END
			WHEN name = 'TimeZone' THEN 'Asia/Tokyo' WHEN name = 'DateStyle' THEN 'SQL, DMY'
			WHEN name = 'default_text_search_config' THEN 'pg_catalog.french'
			WHEN name IN ('lc_monetary', 'lc_numeric', 'lc_time') THEN 'POSIX'
			WHEN name = 'search_path' THEN 'public' ELSE setting END
		FROM pg_settings WHERE context = 'user' ORDER BY name`) {
		name, value, _ := strings.Cut(line, "=")
		all = append(all, setting{name, value})
	}
	conn := testkit.Connect(t, server.DSN("postgres"))
	for _, s := range all {
		if slices.Contains([]string{"transaction_isolation", "transaction_read_only", "transaction_deferrable", "seed", "role", "session_authorization", "local_preload_libraries"}, s.name) {
			continue
		}
		value := sqltext.QuoteLiteral(s.value)
		if s.name == "DateStyle" || s.name == "search_path" {
			value = s.value
		}
		if _, err := conn.Exec(t.Context(), "ALTER DATABASE "+sqltext.QuoteIdent(database)+" SET "+s.name+" TO "+value); err == nil {
			changed = append(changed, s.name)
		}
	}
	return changed
}
