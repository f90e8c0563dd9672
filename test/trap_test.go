package test

import (
	"context"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestTraps has every command work on databases in which everything that pgmedic
// could call by a bare name is a trap, on a search path that has the traps first,
// set for the database and for the role.
func TestTraps(t *testing.T) {
	for _, major := range scratchtest.Ends(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			var extra map[string]string
			if major >= 13 { // what --plans reads
				extra = map[string]string{"shared_preload_libraries": "pg_stat_statements"}
			}
			s := scratchtest.New(t, scratch.Options{Major: major, TCP: true, Password: password, Settings: extra})
			trapped := newTrapped(t, s)
			for _, c := range aReading() {
				trapped.run(c...)
			}
			trapped.pasteAdvice()
			// The client programs that are installed refuse a newer server.
			if major > server.Major() {
				trapped.refused("check")
				trapped.refused("backup")
				return
			}
			trapped.run("check")
			for _, method := range testkit.Few(t, 1, []string{"plain", "parallel"}) {
				trapped.restoring(method)
			}
		})
	}
}

// reading are the commands that no client program is needed for.
func aReading() [][]string {
	return [][]string{
		{"report"}, {"report", "--interval", "10ms", "--exact-bloat", "--plans", "--all-databases", "--no-history"},
		{"report", "--format", "prometheus", "--no-history"}, {"report", "--format", "html", "--no-history"},
		{"init", "--roles-only"}, {"list"}, {"prune", "--yes"}, {"config"},
	}
}

// trapped is a bench whose server is full of traps.
type trapped struct {
	*bench
	server *scratch.Server
	heard  int
}

func newTrapped(t *testing.T, s *scratch.Server) *trapped {
	t.Helper()
	b := &bench{t: t, database: "trapped", dir: t.TempDir(), mark: "/mark-trapped"}
	b.store = filepath.Join(b.dir, "store")
	tmp, err := os.MkdirTemp("", "e2e-") //nolint:usetesting // its path is too long for a socket
	if err == nil {
		err = os.Chmod(tmp, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.tmp = tmp
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	if err := os.Mkdir(b.store, 0o700); err != nil {
		t.Fatal(err)
	}
	b.env = b.environ("DATABASE_URL=" + s.URL(b.database))
	if s.Major() != server.Major() {
		b.env = append(b.env, "PGMEDIC_POSTGRES_DIRS="+s.BinDir()+string(os.PathListSeparator)+programs)
	}
	tr := &trapped{bench: b, server: s}
	tr.exec("postgres", "CREATE ROLE mallory LOGIN", "CREATE DATABASE trapped OWNER mallory TEMPLATE template0")
	tr.exec("trapped", "CREATE EXTENSION citext SCHEMA public", "CREATE TABLE public.patients (id int PRIMARY KEY, name varchar(20) DEFAULT 'x', born date)",
		"CREATE INDEX ON public.patients (born)", "INSERT INTO public.patients (id) SELECT pg_catalog.generate_series(1, 500)",
		"CREATE TABLE public.visits (id bigint GENERATED ALWAYS AS IDENTITY, patient int REFERENCES public.patients)",
		"INSERT INTO public.visits (patient) SELECT id FROM public.patients",
		"CREATE MATERIALIZED VIEW public.days AS SELECT born, pg_catalog.count(*) AS n FROM public.patients GROUP BY born",
		"SELECT pg_catalog.lo_create(4711)", "CREATE TABLE public.keyless (a public.citext, b numeric(8, 2), c text[])",
		"INSERT INTO public.keyless VALUES ('x', 1, '{y}')", "CREATE SCHEMA spare", "ALTER TABLE public.patients OWNER TO mallory",
		"CREATE EXTENSION pgstattuple SCHEMA public", "CREATE EXTENSION amcheck SCHEMA public")
	if s.Major() >= 13 {
		tr.exec("trapped", "CREATE EXTENSION pg_stat_statements SCHEMA public")
	}
	for _, database := range []string{"trapped", "postgres"} {
		tr.set(database)
	}
	return tr
}

// set plants the traps.
func (tr *trapped) set(database string) {
	tr.t.Helper()
	ctx := context.Background()
	conn := testkit.Dial(tr.t, tr.server.DSN(database))
	defer testkit.End(conn)
	names := calledNames(tr.t)
	if testkit.All() && database == "trapped" && tr.server.Major() == server.Major() {
		names = []string{"*"}
	}
	const symbols = "= <> < > <= >= || + - * / % ~ !~ ~* ~~ !~~ && @> <@ -> ->> << >> & |"
	setting := func(name, value string) string { return "SET trap." + name + " = '" + value + "'" }
	sql := setting("names", strings.Join(names, " ")) + ";" + setting("symbols", symbols) + ";\n" +
		fileText(tr.t, "testdata/traps.sql")
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		tr.t.Fatal(err)
	}
	var made string
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('trap.made')").Scan(&made); err != nil {
		tr.t.Fatal(err)
	}
	if n, _ := strconv.Atoi(made); n < 1000 {
		tr.t.Fatalf("only %d traps were set", n)
	}
	for _, who := range []string{"DATABASE " + database, "ROLE " + tr.server.Superuser() + " IN DATABASE " + database} {
		if _, err := conn.Exec(ctx, "ALTER "+who+" SET search_path = public, pg_catalog"); err != nil {
			tr.t.Fatal(err)
		}
	}
	// A session as anybody else has it: the traps do go off.
	tr.exec(database, "SELECT lower('x') WHERE 'a'::text = 'b'")
	if heard := tr.sprung(); len(heard) < 2 {
		tr.t.Fatalf("the traps do not work: %q", heard)
	}
}

func (tr *trapped) exec(database string, statements ...string) {
	tr.t.Helper()
	ctx := context.Background()
	conn := testkit.Dial(tr.t, tr.server.DSN(database))
	defer testkit.End(conn)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			tr.t.Fatalf("%v: %s", err, sql)
		}
	}
}

var sprungTrap = regexp.MustCompile(`TRAP .*`)

// sprung are the traps that went off since it was last asked.
func (tr *trapped) sprung() []string {
	tr.t.Helper()
	text, err := os.ReadFile(filepath.Join(tr.server.Dir(), "server.log"))
	if err != nil {
		tr.t.Fatal(err)
	}
	found := map[string]bool{}
	for _, line := range sprungTrap.FindAllString(string(text[tr.heard:]), -1) {
		found[line] = true
	}
	tr.heard = len(text)
	return slices.Sorted(maps.Keys(found))
}

// run has a command succeed, and no trap go off.
func (tr *trapped) run(args ...string) string {
	tr.t.Helper()
	r := tr.bench.run(args...)
	tr.quiet(args...)
	if r.code != 0 {
		tr.t.Fatalf("pgmedic %s: exit code %d\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

// refused is run for a command that can't succeed.
func (tr *trapped) refused(args ...string) {
	tr.t.Helper()
	if r := tr.bench.run(args...); r.code == 0 {
		tr.t.Errorf("pgmedic %q succeeded", args)
	}
	tr.quiet(args...)
}

func (tr *trapped) quiet(args ...string) {
	tr.t.Helper()
	if called := tr.sprung(); len(called) > 0 {
		tr.t.Errorf("pgmedic %s called %d traps, such as %q", strings.Join(args, " "), len(called), called[:min(len(called), 12)])
	}
}

// restoring runs the commands that back up and restore, by one method.
func (tr *trapped) restoring(method string) {
	tr.t.Helper()
	tr.run("backup", "-q", "--method", method, "--table", "patients", "--exclude-schema", "spare*")
	tr.run("backup", "-q", "--method", method, "--exclude-table-data", "visits")
	tr.run("backup", "-q", "--method", method, "--all-databases")
	id := strings.TrimSpace(tr.run("backup", "-q", "--method", method))
	tr.run("list")
	tr.run("show", id)
	tr.run("verify", id)
	tr.run("drill", id, "--on-server")
	tr.run("drill", id, "--no-amcheck")
	tr.run("restore", id, "--into", "trapped_copy", "--globals")
	tr.pasteRescue(id)
	tr.run("restore", id, "--swap", "--yes", "--dry-run")
	tr.run("restore", id, "--swap", "--yes")
	tr.run("rollback", "trapped", "--yes")
	tr.run("prune", "--yes", "--keep-displaced", "0s")
	tr.run("restore", id, "--into", "trapped_shape", "--schema-only", "--no-owner")
	tr.run("copy", id, "--to", filepath.Join(tr.dir, "copies-"+method))
	tr.refused("restore", "--resume", "--yes") // there is nothing to resume
	tr.exec("postgres", "DROP DATABASE trapped_copy", "DROP DATABASE trapped_shape")
	tr.sprung()
}

// paste runs printed SQL as a superuser would who pastes it: in a session of the
// database's own search path.
func (tr *trapped) paste(what, sql string) {
	tr.t.Helper()
	ctx := context.Background()
	conn := testkit.Dial(tr.t, tr.server.DSN(tr.database))
	defer testkit.End(conn)
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		tr.t.Errorf("paste %s: %v\n%s", what, err, sql)
	}
	tr.quiet("[pasting]", what, sql)
}

// pasteAdvice pastes what a report says to look at, and the SQL of the roles.
func (tr *trapped) pasteAdvice() {
	tr.t.Helper()
	tr.paste("init --roles-only", tr.run("init", "--roles-only"))
	tr.exec("trapped", "DROP OWNED BY pgmedic_monitor, pgmedic_backup, pgmedic_restore, pgmedic_replication", "DROP ROLE pgmedic_monitor, pgmedic_backup, pgmedic_restore, pgmedic_replication")
	tr.sprung()
	var report struct {
		Findings []struct{ ID, Fix, Risk string } `json:"findings"`
	}
	if err := json.Unmarshal([]byte(tr.run("report", "--json", "--no-history")), &report); err != nil {
		tr.t.Fatal(err)
	}
	for _, f := range report.Findings {
		if strings.HasPrefix(f.Risk, "Changes nothing") {
			tr.paste(f.ID, f.Fix)
		}
	}
}

// pasteRescue rescues tables and pastes what compares them and puts them back.
func (tr *trapped) pasteRescue(id string) {
	tr.t.Helper()
	var rescued struct {
		Schema string `json:"schema"`
		Tables []struct {
			SQL map[string]string `json:"sql"`
		} `json:"tables"`
	}
	if err := json.Unmarshal([]byte(tr.run("restore", id, "--table", "public.patients", "--table", "public.visits", "--table", "public.keyless", "--json")), &rescued); err != nil {
		tr.t.Fatal(err)
	}
	for _, table := range rescued.Tables {
		if len(table.SQL) < 3 {
			tr.t.Errorf("not all of the SQL: %q", table.SQL)
		}
		for name, sql := range table.SQL {
			tr.paste(name, sql)
		}
	}
	tr.paste("the clean-up", `DROP SCHEMA "`+rescued.Schema+`" CASCADE`)
}

var called = regexp.MustCompile(`\b([a-z][a-z0-9_]+)\(`)

// calledNames are all words of the sources that are followed by a parenthesis:
// what SQL of ours may call, and some more.
func calledNames(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	for _, root := range []string{"../internal", "../cmd"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(path, "_test.go") || !slices.Contains([]string{".go", ".sql", ".tmpl"}, filepath.Ext(path)) {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range called.FindAllStringSubmatch(string(text), -1) {
				found[m[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, must := range []string{"set_config", "lower", "current_schemas"} {
		if !found[must] {
			t.Fatalf("%s is not among the %d names found", must, len(found))
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func fileText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
