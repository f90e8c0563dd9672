package test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// level is where a setting is given: to the database, to the role, or to the server.
type level string

const (
	ofDatabase level = "database"
	ofRole     level = "role"
	ofServer   level = "server"
)

// adverse is a setting with a value that can hinder pgmedic, or change what it
// reads, writes or computes.
type adverse struct {
	name, value string
	// since is the first version that has it; zero means all.
	since int
	// only are the levels where it can be; nil means all.
	only []level
}

func adverseSettings() []adverse {
	sessions := []level{ofDatabase, ofRole}
	return []adverse{
		{name: "role", value: "pg_monitor", only: sessions},
		{name: "default_transaction_read_only", value: "on"},
		{name: "default_transaction_isolation", value: "serializable"},
		{name: "default_transaction_deferrable", value: "on"},
		{name: "statement_timeout", value: "1ms"},
		{name: "lock_timeout", value: "1ms"},
		{name: "idle_in_transaction_session_timeout", value: "1ms"},
		{name: "idle_session_timeout", value: "1ms", since: 14},
		{name: "transaction_timeout", value: "1ms", since: 17},
		{name: "search_path", value: "decoy, public, pg_catalog"},
		{name: "client_encoding", value: "LATIN1"},
		{name: "DateStyle", value: "SQL, DMY"},
		{name: "IntervalStyle", value: "sql_standard"},
		{name: "TimeZone", value: "Asia/Tokyo"},
		{name: "extra_float_digits", value: "-15"},
		{name: "bytea_output", value: "escape"},
		{name: "quote_all_identifiers", value: "on"},
		{name: "standard_conforming_strings", value: "off"},
		{name: "backslash_quote", value: "off"},
		{name: "escape_string_warning", value: "on"},
		{name: "array_nulls", value: "off"},
		{name: "transform_null_equals", value: "on"},
		{name: "xmloption", value: "document"},
		{name: "xmlbinary", value: "hex"},
		{name: "row_security", value: "on"},
		{name: "default_tablespace", value: "elsewhere", only: sessions},
		{name: "temp_tablespaces", value: "elsewhere", only: sessions},
		{name: "default_table_access_method", value: "other_heap", only: sessions},
		{name: "default_toast_compression", value: "pglz", since: 14},
		{name: "check_function_bodies", value: "on"},
		{name: "lc_messages", value: "POSIX"},
		{name: "lc_monetary", value: "POSIX"},
		{name: "lc_numeric", value: "POSIX"},
		{name: "session_replication_role", value: "replica"},
		{name: "synchronous_commit", value: "remote_apply"},
		{name: "jit", value: "on"},
		{name: "jit_above_cost", value: "0"},
		{name: "enable_seqscan", value: "off"},
		{name: "enable_indexscan", value: "off"},
		{name: "enable_hashjoin", value: "off"},
		{name: "enable_sort", value: "off"},
		{name: "work_mem", value: "64kB"},
		{name: "maintenance_work_mem", value: "1MB"},
		{name: "client_min_messages", value: "debug5"},
		{name: "log_statement", value: "all"},
		{name: "log_min_duration_statement", value: "0"},
		{name: "log_error_verbosity", value: "verbose"},
		{name: "password_encryption", value: "md5"},
		{name: "application_name", value: "theirs"},
		{name: "plan_cache_mode", value: "force_generic_plan"},
		{name: "default_text_search_config", value: "pg_catalog.french"},
		{name: "gin_fuzzy_search_limit", value: "1"},
		{name: "vacuum_freeze_min_age", value: "0"},
		{name: "vacuum_freeze_table_age", value: "0"},
		{name: "createrole_self_grant", value: "set, inherit", since: 16},
		{name: "event_triggers", value: "off", since: 17},
		{name: "exit_on_error", value: "on"},
		{name: "lo_compat_privileges", value: "on"},
		{name: "synchronize_seqscans", value: "on"},
		{name: "default_statistics_target", value: "1"},
		{name: "max_parallel_workers_per_gather", value: "4"},
		{name: "constraint_exclusion", value: "on"},
		{name: "cursor_tuple_fraction", value: "0"},
	}
}

// list is a value as ALTER takes it: of some settings a list, of most a string.
func (a adverse) list() string {
	if a.name == "search_path" || a.name == "DateStyle" || a.name == "temp_tablespaces" || a.name == "createrole_self_grant" {
		return a.value
	}
	return sqltext.QuoteLiteral(a.value)
}

// at leaves out what a server or a level does not know.
func at(all []adverse, l level, major int) (can []adverse) {
	for _, a := range all {
		if a.since <= major && (a.only == nil || slices.Contains(a.only, l)) {
			can = append(can, a)
		}
	}
	return can
}

// TestSettings runs everything with sixty settings of the database, of the role and
// of the server, all that can be at once.
func TestSettings(t *testing.T) {
	t.Parallel()
	// What ends a session at its first error leaves nothing of the others to see.
	all := slices.DeleteFunc(adverseSettings(), func(a adverse) bool { return a.name == "exit_on_error" })
	for l, methods := range testkit.Some(t, 1, map[level][]string{ofDatabase: {"parallel", "plain"}, ofRole: {"parallel"}, ofServer: {"plain"}}) {
		t.Run(string(l), func(t *testing.T) {
			t.Parallel()
			s := settingsServer(t)
			w := newWorld(t, s, at(all, l, s.Major()), l)
			w.report()
			w.round(true, methods...)
		})
	}
}

// TestEachSetting runs everything with a few of the settings, of the database and of the
// role: in make chaos with each by itself.
func TestEachSetting(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	s := settingsServer(t)
	var alone, others []adverse
	for _, a := range at(adverseSettings(), ofDatabase, s.Major()) {
		if a.name == "exit_on_error" { // leaves nothing of the others to see
			alone = append(alone, a)
		} else {
			others = append(others, a)
		}
	}
	groups := slices.AppendSeq([][]adverse{alone}, slices.Chunk(others, testkit.Amount(0, 16, 1)))
	for _, group := range groups {
		var names []string
		for _, a := range group {
			names = append(names, a.name)
		}
		t.Run(strings.Join(names, ","), func(t *testing.T) {
			t.Parallel()
			newWorld(t, s, group, ofDatabase, ofRole).round(false, "parallel")
		})
	}
}

// TestSettingsThroughPooler runs everything through PgBouncer in session mode with
// all settings of the database and the role with which that can be: where client
// programs would need a setting from the start, the refusal is all that happens.
func TestSettingsThroughPooler(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	s := settingsServer(t)
	// Each would end the pooler's own sessions, or pg_dump's, which begin with them.
	hasty := []string{"exit_on_error", "idle_session_timeout", "transaction_timeout", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}
	stubborn := []string{"role", "array_nulls", "default_transaction_read_only", "session_replication_role"}
	all := slices.DeleteFunc(at(adverseSettings(), ofDatabase, s.Major()), func(a adverse) bool { return slices.Contains(hasty, a.name) })
	through := func(w *world) {
		address, err := url.Parse(scratchtest.Bouncer(t, s, scratchtest.BouncerOptions{Mode: "session", PoolSize: 20, User: w.role, Password: password})(w.database))
		if err != nil {
			t.Fatal(err)
		}
		w.connectBy(address.Host)
	}
	w := newWorld(t, s, slices.DeleteFunc(slices.Clone(all), func(a adverse) bool { return slices.Contains(stubborn, a.name) }), ofDatabase, ofRole)
	through(w)
	w.report()
	w.round(true, "parallel")

	// A role that the role takes on is pg_dump's as well, and that fails.
	w = newWorld(t, s, slices.DeleteFunc(slices.Clone(all), func(a adverse) bool { return a.name == "role" }), ofRole)
	through(w)
	id := strings.TrimSpace(w.must("backup", "-q"))
	want := w.content(w.database)
	for _, args := range [][]string{{"restore", id, "--into", w.database + "_into"}, {"restore", id, "--swap", "--yes"}} {
		r := w.run(args...)
		if r.code != 2 || !strings.Contains(r.stderr, strings.Join([]string{"array_nulls", "default_transaction_read_only", "session_replication_role"}, ", ")) {
			t.Errorf("pgmedic %s: exit code %d\n%s", strings.Join(args, " "), r.code, r.stderr)
		}
	}
	if got := w.content(w.database); got != want {
		t.Errorf("it has become\n%s\nwas\n%s", got, want)
	}
	if got := w.ask("postgres", "SELECT string_agg(datname, ' ') FROM pg_database WHERE starts_with(datname, '"+w.database+"')"); got != w.database {
		t.Errorf("databases %s", got)
	}
}

// settingsServer is a server of the test's own, whose settings it changes.
func settingsServer(t *testing.T) *scratch.Server {
	t.Helper()
	s := scratchtest.New(t, scratch.Options{TCP: true, Password: password, Settings: map[string]string{"max_connections": "100"}})
	dir, err := s.TablespaceDir("elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	if err := executeAt(s.DSN("postgres"), "CREATE TABLESPACE elsewhere LOCATION "+sqltext.QuoteLiteral(dir)); err != nil {
		t.Fatal(err)
	}
	return s
}

// world is a database, a role and a server with adverse settings.
type world struct {
	*bench
	server *scratch.Server
	role   string
}

// decoys are functions that a session finds where it looks for a bare name.
const decoys = `
CREATE SCHEMA decoy;
CREATE FUNCTION decoy.current_setting(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''decoy''; END';
CREATE FUNCTION decoy.pg_backend_pid() RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE ''decoy''; END';
CREATE FUNCTION decoy.set_config(text, text, bool) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''decoy''; END';
CREATE FUNCTION decoy.format(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''decoy''; END';
CREATE VIEW decoy.pg_class AS SELECT 1 AS decoy;
CREATE VIEW decoy.pg_settings AS SELECT 1 AS decoy;`

// definitions come before the adverse settings, rows after them, for what the
// server computes of a row must be what it computes again in a restore.
const definitions = `
CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE FUNCTION words(text) RETURNS tsvector LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.to_tsvector($1)';
CREATE FUNCTION day_of(timestamptz) RETURNS date LANGUAGE sql IMMUTABLE AS 'SELECT $1::pg_catalog.date';
CREATE TABLE visits (id int PRIMARY KEY, at timestamptz, gap interval, x float8, y real, b bytea, tags text[], doc xml, fee numeric, note text
	CHECK (note <> 'x')%s);
CREATE INDEX ON visits (note);
CREATE TABLE bills (id int PRIMARY KEY, visit int REFERENCES visits, amount money, "select" text);
CREATE VIEW seen AS SELECT id, note FROM visits WHERE note IS NOT NULL;
CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := NEW.note || ''!''; RETURN NEW; END';
CREATE TRIGGER log_it BEFORE INSERT ON visits FOR EACH ROW EXECUTE FUNCTION log_it();
CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''ddl''; END';
CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION no_ddl();
ALTER TABLE bills ENABLE ROW LEVEL SECURITY;
CREATE POLICY none ON bills USING (false);`

// computed are columns whose values settings decide.
const computed = ", day date GENERATED ALWAYS AS (day_of(at)) STORED, found tsvector GENERATED ALWAYS AS (words(note)) STORED"

const rows = `
INSERT INTO public.visits (id, at, gap, x, y, b, tags, doc, fee, note) SELECT n, to_timestamp(1767225600 + n * 7200.5), make_interval(months => n, days => -n, secs => n / 7.0),
	1 / (n + 2)::float8, 1 / (n + 2)::real, decode(lpad(to_hex(n), 8, '0') || '5c00ff', 'hex'), ARRAY[NULL, chr(92), chr(34), 'NULL', n::text],
	xmlelement(name a, n), n / 7.0, chr(228) || chr(92) || chr(39) || ' les chevaux mangeaient ' || n FROM generate_series(1, 300) AS n;
INSERT INTO public.bills SELECT n, n, n::numeric::money, chr(9) || n FROM generate_series(1, 300) AS n;
SELECT lo_from_bytea(0, decode('5c00ff', 'hex'));`

func newWorld(t *testing.T, s *scratch.Server, settings []adverse, levels ...level) *world {
	t.Helper()
	b := &bench{t: t, database: "e2e_" + strings.ToLower(rand.Text()[:10]), dir: t.TempDir(), mark: "/mark-" + rand.Text()}
	w := &world{bench: b, server: s, role: "of_" + b.database}
	b.store = filepath.Join(b.dir, "store")
	b.tmp = t.TempDir()
	w.exec("postgres", "CREATE DATABASE "+b.database+" TEMPLATE template0", "CREATE ROLE "+w.role+" SUPERUSER LOGIN PASSWORD "+sqltext.QuoteLiteral(password))
	more := computed
	if slices.Contains(levels, ofRole) { // values that depend on who writes a row are nothing that anyone can restore
		more = ""
	}
	w.exec(b.database, decoys, fmt.Sprintf(definitions, more))
	for _, l := range levels {
		for _, a := range settings {
			set := " SET " + a.name + " = " + a.list()
			switch l {
			case ofServer:
				w.exec("postgres", "ALTER SYSTEM"+set)
			case ofDatabase:
				w.exec("postgres", "ALTER DATABASE "+b.database+set)
			case ofRole:
				w.exec("postgres", "ALTER ROLE "+w.role+set)
			}
		}
	}
	if slices.Contains(levels, ofServer) {
		w.exec("postgres", "SELECT pg_reload_conf()")
		testkit.Eventually(t, time.Minute, "the server has its settings", func() bool {
			return w.ask("postgres", "SELECT count(*)::text FROM pg_file_settings WHERE sourcefile ~ 'auto.conf$' AND NOT applied") == "0" &&
				w.ask("postgres", "SELECT setting FROM pg_file_settings WHERE name = '"+settings[0].name+"' AND sourcefile ~ 'auto.conf$'") != ""
		})
	}
	t.Cleanup(func() {
		for _, name := range strings.Fields(w.ask("postgres", "SELECT coalesce(string_agg(datname, ' '), '') FROM pg_database WHERE starts_with(datname, '"+b.database+"')")) {
			w.exec("postgres", "DROP DATABASE "+name+" WITH (FORCE)")
		}
		w.exec("postgres", "DROP ROLE "+w.role)
	})
	w.exec(b.database, rows)
	w.connectBy(fmt.Sprintf("127.0.0.1:%d", s.Port()))
	w.inForce(settings)
	return w
}

// inForce checks that sessions of the role with the database have the settings.
func (w *world) inForce(settings []adverse) {
	w.t.Helper()
	ctx := context.Background()
	patient := []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout"}
	conn := testkit.Dial(w.t, w.server.URL(w.database), func(c *pgx.ConnConfig) {
		c.User = w.role
		delete(c.RuntimeParams, "application_name")
		// Or the session would end before it says so.
		for _, a := range settings {
			if slices.Contains(patient, a.name) {
				c.RuntimeParams[a.name] = "0"
			}
		}
	})
	defer testkit.End(conn)
	for _, a := range settings {
		if slices.Contains(patient, a.name) || a.name == "client_encoding" { // pgx asks for UTF8
			continue
		}
		results, err := conn.PgConn().Exec(ctx, "SELECT pg_catalog.current_setting("+sqltext.QuoteLiteral(a.name)+")").ReadAll()
		if err != nil {
			w.t.Fatal(err)
		}
		if got := strings.ReplaceAll(string(results[0].Rows[0][0]), `"`, ""); got != a.value {
			w.t.Errorf("%s is %q in a session, want %q", a.name, got, a.value)
		}
	}
}

// connectBy makes the program connect as the role by an address.
func (w *world) connectBy(address string) {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(w.role, password), Host: address, Path: "/" + w.database, RawQuery: "sslmode=disable"}
	w.env = w.environ("DATABASE_URL=" + u.String())
}

// session is one in which no adverse setting hinders the test, and those that
// decide values of the database or the server are in force. The caller ends it.
func (w *world) session(database string) *pgx.Conn {
	w.t.Helper()
	return testkit.Dial(w.t, w.server.DSN(database), func(c *pgx.ConnConfig) {
		c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		for _, pair := range []string{
			"statement_timeout=0", "lock_timeout=0", "idle_in_transaction_session_timeout=0", "default_transaction_read_only=off", "search_path=public",
			"role=none", "session_replication_role=origin", "client_min_messages=warning", "standard_conforming_strings=on", "client_encoding=UTF8",
			"default_transaction_isolation=read committed", "row_security=off", "exit_on_error=off", "default_table_access_method=heap",
			"synchronous_commit=local", "array_nulls=on", "xmloption=content", "default_transaction_deferrable=off",
		} {
			name, value, _ := strings.Cut(pair, "=")
			c.RuntimeParams[name] = value
		}
		if w.server.Major() >= 14 {
			c.RuntimeParams["idle_session_timeout"] = "0"
		}
		if w.server.Major() >= 17 {
			c.RuntimeParams["transaction_timeout"] = "0"
		}
	})
}

func (w *world) exec(database string, statements ...string) {
	w.t.Helper()
	ctx := context.Background()
	conn := w.session(database)
	defer testkit.End(conn)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			w.t.Fatalf("%s: %v", sql, err)
		}
	}
}

func (w *world) ask(database, sql string, args ...any) (got string) {
	w.t.Helper()
	ctx := context.Background()
	conn := w.session(database)
	defer testkit.End(conn)
	// The same text whatever the database sets.
	for _, set := range []string{"DateStyle = ISO", "IntervalStyle = postgres", "TimeZone = UTC", "extra_float_digits = 3", "bytea_output = hex", "quote_all_identifiers = off"} {
		if _, err := conn.Exec(ctx, "SET "+set); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := conn.QueryRow(ctx, sql, args...).Scan(&got); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return got
}

// content is all rows and definitions in one sum for each, and the settings.
func (w *world) content(database string) string {
	w.t.Helper()
	return w.sums(database, "public") + w.ask(database, `SELECT (SELECT string_agg(pg_get_viewdef(oid), '') FROM pg_class WHERE relname = 'seen') ||
		(SELECT string_agg(pg_get_constraintdef(oid), ' ' ORDER BY conname) FROM pg_constraint WHERE conrelid::regclass::text IN ('visits', 'bills')) ||
		(SELECT md5(lo_get(max(oid))) FROM pg_largeobject_metadata) ||
		coalesce((SELECT string_agg(c, ' ' ORDER BY c) FROM pg_db_role_setting AS s, unnest(s.setconfig) AS c
			WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())), '')`)
}

func (w *world) sums(database, schema string) string {
	w.t.Helper()
	const sum = "SELECT count(*) || ' rows ' || md5(string_agg(t::text, '|' ORDER BY id)) || ' ' FROM %s.%s AS t"
	schema = sqltext.QuoteIdent(schema)
	return w.ask(database, fmt.Sprintf(sum, schema, "visits")) + w.ask(database, fmt.Sprintf(sum, schema, "bills"))
}

// must runs the program, which must end with exit code 0, and returns its output.
func (w *world) must(args ...string) string {
	w.t.Helper()
	r := w.run(args...)
	if r.code != 0 {
		w.t.Errorf("pgmedic %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// report runs what only reads.
func (w *world) report() {
	w.t.Helper()
	w.must("check")
	w.must("report")
}

// round takes a backup, proves it and restores it in every way. What fails is
// reported, and the round goes on as far as it can.
func (w *world) round(drill bool, methods ...string) {
	t := w.t
	t.Helper()
	for _, method := range methods {
		want := w.content(w.database)
		id := strings.TrimSpace(w.must("backup", "-q", "--method", method))
		if id == "" {
			continue
		}
		if drill {
			w.must("drill", id)
		}
		into := w.database + "_" + method
		w.must("restore", id, "--into", into)
		if got := w.content(into); got != want {
			t.Errorf("%s: the copy is\n%s\nwant\n%s", method, got, want)
		}
		if schema := strings.TrimSpace(w.must("restore", id, "-q", "--table", "visits", "--table", "bills")); schema != "" {
			w.rescued(schema)
		}
		w.exec(w.database, "DELETE FROM bills WHERE id = (SELECT max(id) FROM bills)")
		broken := w.content(w.database)
		w.must("restore", id, "--swap", "--yes")
		if got := w.content(w.database); got != want {
			t.Errorf("%s: after the swap it is\n%s\nwant\n%s", method, got, want)
		}
		w.must("rollback", w.database, "--yes")
		if got := w.content(w.database); got != broken {
			t.Errorf("%s: after the rollback it is\n%s\nwant\n%s", method, got, broken)
		}
	}
}

// rescued compares the rows that a rescue brought back, without the columns that a
// table computes.
func (w *world) rescued(schema string) {
	w.t.Helper()
	const sql = "SELECT md5(string_agg(ROW(id, at, gap, x, y, b, tags, doc::text, fee, note)::text, '|' ORDER BY id)) FROM %s.visits"
	want, got := w.ask(w.database, fmt.Sprintf(sql, "public")), w.ask(w.database, fmt.Sprintf(sql, sqltext.QuoteIdent(schema)))
	if got != want {
		w.t.Error("the rescued rows are other ones")
	}
	w.exec(w.database, "DROP SCHEMA "+sqltext.QuoteIdent(schema)+" CASCADE")
}
