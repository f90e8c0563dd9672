package drill_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// take backs a database up by a method, and returns the folder of its objects.
func take(t *testing.T, dsn string, method backup.Method) (*catalog.Catalog, *pgmedic.Backup, string) {
	t.Helper()
	c, dir := fixture.NewCatalogIn(t)
	o := fixture.BackupOptions(t, dsn, c)
	o.Method = method
	o.Seal = seal.Options{Compression: seal.CompressionZstd}
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c, b, filepath.Join(dir, catalog.Folder(b.Server.Name, b.Database.Name, b.ID))
}

// patients makes a database with a table, an index and a key.
func patients(t *testing.T, more ...string) (dsn string) {
	t.Helper()
	dsn = scratchtest.Database(t, server)
	fixture.Exec(t, dsn, append([]string{
		"CREATE TABLE patients (id int PRIMARY KEY, name text)",
		"INSERT INTO patients SELECT n, '" + patientData + "' || n FROM generate_series(1, 3000) AS n",
		"CREATE INDEX patients_name ON patients (name)",
	}, more...)...)
	return dsn
}

// private is the private server of a drill that is going on.
type private struct{ dir string }

func privateOf(t *testing.T, o drill.Options) private {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(o.ScratchDir, "pgmedic-scratch-*"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%d scratch servers: %v", len(dirs), err)
	}
	return private{dirs[0]}
}

func (p private) dsn(superuser string) string {
	return "host=" + filepath.Join(p.dir, "socket") + " port=5432 user=" + superuser + " dbname=pgmedic_drill"
}

// at calls do when a step of a drill begins.
func at(o *drill.Options, step string, do func()) {
	o.Progress = func(e pgmedic.Event) {
		if e.Step == step && e.Object == "" && !e.Finished && !e.Failed {
			do()
		}
	}
}

func check(t *testing.T, r *pgmedic.Receipt, name string) pgmedic.Check {
	t.Helper()
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Errorf("no check %q among %+v", name, r.Checks)
	return pgmedic.Check{}
}

// TestChecks drills a good backup and looks at what the receipt tells of it.
func TestChecks(t *testing.T) {
	dsn := patients(t,
		"ALTER TABLE patients ADD CHECK (id > 0), ADD CONSTRAINT later CHECK (id > 1) NOT VALID",
		"CREATE EXTENSION pgcrypto")
	for name, method := range fixture.Methods(t, 2) {
		t.Run(name, func(t *testing.T) {
			c, b, _ := take(t, dsn, method)
			receipt, err := run(t.Context(), t, options(t, c, b))
			if err != nil || receipt.Proof != pgmedic.ProofProven {
				t.Fatalf("%+v, %v", receipt, err)
			}
			for name, want := range map[string]string{
				"row counts":  "3,000 rows in 1 table",
				"constraints": "2 hold for every row: the server tested them as it made them; 1 not validated, as in the source",
				"extensions":  "2 with the recorded versions",
				"indexes":     " B-trees are sound, and hold every row of their tables",
				"heaps":       " tables and their TOAST are sound",
			} {
				if got := check(t, receipt, name); got.Outcome != pgmedic.OutcomeOK || !strings.HasSuffix(got.Detail, want) {
					t.Errorf("%s: %s %s, want %s", name, got.Outcome, got.Detail, want)
				}
			}
			if got := check(t, receipt, "assertions"); got.Outcome != pgmedic.OutcomeSkipped {
				t.Errorf("assertions, of which there are none: %+v", got)
			}
			n := receipt.Counted
			if n.Tables != 1 || n.Rows != 3000 || n.Constraints != 2 || n.Indexes < 100 || n.Heaps < 50 {
				t.Errorf("counted: %+v", n)
			}
			s := receipt.Scratch
			if s.Kind != pgmedic.ScratchPrivate || !s.Durable || s.CPUs == 0 || s.Platform == "" {
				t.Errorf("scratch: %+v", s)
			}
			var steps []string
			for _, s := range receipt.Steps {
				steps = append(steps, s.Name)
			}
			for _, step := range []string{"start", "load", "analyze", "compare", "cut off", "amcheck", "assertions"} {
				if !strings.Contains(" "+strings.Join(steps, " ")+" ", " "+step+" ") {
					t.Errorf("step %s was not measured: %q", step, steps)
				}
			}
			wantProof(t, c, b, pgmedic.ProofProven, 1)
		})
	}
}

// TestSeededDamage damages the copy between the load and the checks, in ways
// that leave the number of rows and all definitions as they are.
func TestSeededDamage(t *testing.T) {
	dsn := patients(t, "CREATE TABLE visits (id int PRIMARY KEY) PARTITION BY RANGE (id)",
		"CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM (0) TO (100)")
	c, b, _ := take(t, dsn, backup.Parallel{Jobs: 2})
	for name, tt := range testkit.Some(t, 2, map[string]struct {
		damage func(t *testing.T, p private, dsn string)
		want   string
	}{
		// A page of the index's file. The server wrote it past its buffers.
		"a page of an index": {func(t *testing.T, p private, dsn string) {
			path := fixture.Query[string](t, dsn, "SELECT pg_relation_filepath('public.patients_name')")[0]
			f, err := os.OpenFile(filepath.Join(p.dir, "data", path), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 4096), 8192+2048); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}, "indexes: check index public.patients_name: "},
		// Rows that the index does not hold: a query by it would not find them.
		"rows that an index lacks": {func(t *testing.T, _ private, dsn string) {
			fixture.Exec(t, dsn,
				"UPDATE pg_index SET indisready = false WHERE indexrelid = 'public.patients_name'::regclass",
				"DELETE FROM public.patients WHERE id = 7; INSERT INTO public.patients VALUES (7, '"+patientData+"7')",
				"UPDATE pg_index SET indisready = true WHERE indexrelid = 'public.patients_name'::regclass")
		}, "indexes: check index public.patients_name: "},
		// Rows older than the table says that any can be.
		"rows of a heap": {func(t *testing.T, _ private, dsn string) {
			fixture.Exec(t, dsn, "SELECT txid_current()", "SELECT txid_current()",
				"UPDATE pg_class SET relfrozenxid = (txid_current() % 4294967296)::text::xid WHERE oid = 'public.patients'::regclass")
		}, "heaps: table public.patients: "},
		"a row": {func(t *testing.T, _ private, dsn string) {
			fixture.Exec(t, dsn, "DELETE FROM public.patients WHERE id = 7")
		}, `row counts: "public"."patients" has 2,999 rows, the backup 3,000`},
		"an index that is not valid": {func(t *testing.T, _ private, dsn string) {
			fixture.Exec(t, dsn, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.patients_pkey'::regclass")
		}, "schema: index public.patients_pkey missing"},
		// What two sessions that attach indexes at once on two levels can leave behind.
		"an index of a partitioned table that is not valid": {func(t *testing.T, _ private, dsn string) {
			fixture.Exec(t, dsn, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.visits_pkey'::regclass")
		}, "constraints: indexes that the server does not hold valid: public.visits_pkey"},
		"a definition": {func(t *testing.T, _ private, dsn string) {
			fixture.Exec(t, dsn, "ALTER TABLE public.patients DROP CONSTRAINT patients_pkey")
		}, "schema: "},
	}) {
		t.Run(name, func(t *testing.T) {
			o := options(t, c, b)
			at(&o, "compare", func() {
				p := privateOf(t, o)
				tt.damage(t, p, p.dsn(b.Server.BootstrapRole))
			})
			receipt, err := run(t.Context(), t, o)
			if detail := failedDetail(t, receipt, err); !strings.HasPrefix(detail, tt.want) {
				t.Errorf("%s, want %s", detail, tt.want)
			}
		})
	}
	// None of it was the backup's.
	if receipt, err := run(t.Context(), t, options(t, c, b)); err != nil || receipt.Proof != pgmedic.ProofProven {
		t.Errorf("without damage: %+v, %v", receipt, err)
	}
}

// TestStoredDamage flips a bit in each object that a drill reads.
func TestStoredDamage(t *testing.T) {
	dsn := patients(t, "SELECT lo_from_bytea(0, 'a large object')", "CREATE SEQUENCE tickets")
	c, b, folder := take(t, dsn, backup.Parallel{Jobs: 2})
	for _, object := range b.Objects {
		if object.Role == pgmedic.RoleGlobals || object.Role == pgmedic.RoleRecovery {
			continue // not part of a drill
		}
		t.Run(object.Name, func(t *testing.T) {
			defer damage(t, filepath.Join(folder, object.Name))()
			receipt, err := run(t.Context(), t, onServer(t, options(t, c, b), pgmedic.ScratchOnServer))
			if detail := failedDetail(t, receipt, err); !strings.Contains(detail, object.Name) {
				t.Errorf("the receipt does not name %s: %s", object.Name, detail)
			}
		})
	}
	t.Run("manifest", func(t *testing.T) {
		defer damage(t, filepath.Join(folder, "manifest.json"))()
		_, err := c.Get(t.Context(), b.ID, catalog.Filter{})
		fixture.WantKind(t, err, pgmedic.KindIntegrity)
	})
}

// damage flips a bit in the middle of a file; undo puts it back.
func damage(t *testing.T, path string) (undo func()) {
	t.Helper()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Error(err)
		}
	}
}

// TestCannotRead has the store fail in the middle of each object. A store that
// can't be read proves nothing about what is in it.
func TestCannotRead(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	dsn := patients(t)
	for name, method := range fixture.BothMethods(t, 2) {
		c, b, _ := take(t, dsn, method)
		for _, object := range b.Objects {
			if object.Role == pgmedic.RoleGlobals || object.Role == pgmedic.RoleRecovery {
				continue
			}
			t.Run(name+" "+object.Name, func(t *testing.T) {
				failure := pgmedic.Errorf(pgmedic.KindUnreachable, "", "read: %w", fixture.ErrInjected)
				o := options(t, catalog.New(&fixture.Faulty{Store: c.Store(), OnOpen: func(key string, r io.ReadCloser) (io.ReadCloser, error) {
					if !strings.HasSuffix(key, "/"+object.Name) {
						return r, nil
					}
					return fixture.Closing{Reader: fixture.FailAfter(r, 60, failure), Closer: r}, nil
				}}), b)
				receipt, err := run(t.Context(), t, onServer(t, o, pgmedic.ScratchOnServer))
				if receipt != nil {
					t.Errorf("an unreadable store has a receipt: %+v", receipt)
				}
				fixture.WantKind(t, err, pgmedic.KindUnreachable)
				wantProof(t, c, b, pgmedic.ProofTaken, 0)
			})
		}
	}
}

// TestServerRefuses backs up what no server takes back: that is a bad backup,
// whichever program finds it out.
func TestServerRefuses(t *testing.T) {
	for name, statements := range testkit.Some(t, 1, map[string][]string{
		// It held for every row when it was made; the function asks another
		// table, which is empty when the rows come back.
		"a check of rows": {
			"CREATE TABLE allowed (id int)", "INSERT INTO allowed SELECT generate_series(1, 3000)",
			`CREATE FUNCTION is_allowed(int) RETURNS bool LANGUAGE sql AS 'SELECT count(*) = 3000 AND $1 > 0 FROM public.allowed'`,
			"ALTER TABLE patients ADD CHECK (is_allowed(id))", "TRUNCATE allowed",
		},
		"a key of rows": {
			"CREATE TABLE visits (patient int)", "INSERT INTO visits VALUES (1)",
			"ALTER TABLE visits ADD CONSTRAINT visits_patient FOREIGN KEY (patient) REFERENCES patients",
			"SET session_replication_role = replica; INSERT INTO visits VALUES (-1)",
		},
	}) {
		dsn := patients(t, statements...)
		for methodName, method := range fixture.Methods(t, 2) {
			t.Run(name+" "+methodName, func(t *testing.T) {
				c, b, _ := take(t, dsn, method)
				receipt, err := run(t.Context(), t, options(t, c, b))
				if detail := failedDetail(t, receipt, err); !strings.HasPrefix(detail, "restores: ") {
					t.Errorf("%s", detail)
				}
				wantProof(t, c, b, pgmedic.ProofFailed, 1)
			})
		}
	}
}

func TestExtensions(t *testing.T) {
	dsn := patients(t, "CREATE EXTENSION amcheck VERSION '1.2'", "CREATE EXTENSION pgcrypto")
	c, b, _ := take(t, dsn, backup.Plain{})
	receipt, err := run(t.Context(), t, options(t, c, b))
	if err != nil || receipt.Proof != pgmedic.ProofProven {
		t.Fatalf("%+v, %v", receipt, err)
	}
	got := check(t, receipt, "extensions")
	if got.Outcome != pgmedic.OutcomeWarn || !strings.Contains(got.Detail, `"amcheck" is 1.`) || !strings.HasSuffix(got.Detail, "1.2 in the source") {
		t.Errorf("another version: %+v", got)
	}
	o := options(t, c, b)
	at(&o, "compare", func() {
		fixture.Exec(t, privateOf(t, o).dsn(b.Server.BootstrapRole), "DROP EXTENSION pgcrypto")
	})
	receipt, err = run(t.Context(), t, o)
	failedDetail(t, receipt, err)
	if got := check(t, receipt, "extensions"); got.Outcome != pgmedic.OutcomeFailed {
		t.Errorf("a missing one: %+v", got)
	}
}

// TestAmcheckSkipped says why amcheck did not run.
func TestAmcheckSkipped(t *testing.T) {
	c, b, _ := clinic(t)
	o := options(t, c, b)
	o.SkipAmcheck = "as somebody asked"
	receipt, err := run(t.Context(), t, o)
	if err != nil || receipt.Proof != pgmedic.ProofProven {
		t.Fatalf("%+v, %v", receipt, err)
	}
	for _, name := range []string{"indexes", "heaps"} {
		if got := check(t, receipt, name); got.Outcome != pgmedic.OutcomeSkipped || got.Detail != "as somebody asked" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if receipt.Counted.Indexes+receipt.Counted.Heaps > 0 {
		t.Errorf("counted: %+v", receipt.Counted)
	}

	// A server on whose host contrib is not installed.
	o = options(t, c, b)
	at(&o, "amcheck", func() {
		fixture.Exec(t, privateOf(t, o).dsn(b.Server.BootstrapRole), `SET allow_system_table_mods = on;
			CREATE OR REPLACE VIEW pg_catalog.pg_available_extensions AS
			SELECT e.name, e.default_version, x.extversion AS installed_version, e.comment
			FROM pg_catalog.pg_available_extensions() AS e LEFT JOIN pg_catalog.pg_extension AS x ON e.name = x.extname
			WHERE e.name <> 'amcheck'`)
	})
	receipt, err = run(t.Context(), t, o)
	if err != nil || receipt.Proof != pgmedic.ProofProven {
		t.Fatalf("%+v, %v", receipt, err)
	}
	for _, name := range []string{"indexes", "heaps"} {
		if got := check(t, receipt, name); got.Outcome != pgmedic.OutcomeSkipped || !strings.Contains(got.Detail, "amcheck is not installed") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestLiveEffects has everything in a database that acts on the world, or on
// every session, and looks at the private server while the copy is checked.
func TestLiveEffects(t *testing.T) {
	dsn := patients(t,
		"CREATE EXTENSION postgres_fdw",
		"CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1')",
		"CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (user 'x', password 'y')",
		"CREATE FOREIGN TABLE far (id int) SERVER elsewhere",
		"CREATE SUBSCRIPTION reaches CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, slot_name = 'kept_by_the_original')")
	t.Cleanup(func() {
		fixture.Exec(t, dsn, "ALTER SUBSCRIPTION reaches SET (slot_name = NONE)", "DROP SUBSCRIPTION reaches")
	})
	name := fixture.Query[string](t, dsn, "SELECT current_database()::text")[0]
	fixture.Exec(t, server.DSN("postgres"),
		"ALTER DATABASE "+name+" SET session_preload_libraries = 'there_is_no_such_library'",
		"ALTER DATABASE "+name+" SET default_transaction_read_only = on")
	defer fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+name+" RESET ALL")
	c := fixture.NewCatalog(t)
	o := fixture.BackupOptions(t, dsn, c)
	o.Target = o.Target.With("options", "-c session_preload_libraries=")
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	d := options(t, c, b)
	d.Assertions = []drill.Assertion{{Name: "far", SQL: "SELECT count(*) FROM far"}}
	at(&d, "assertions", func() {
		dsn := privateOf(t, d).dsn(b.Server.BootstrapRole) + " options='-c session_preload_libraries='"
		for sql, want := range map[string]string{
			"SHOW listen_addresses":                "",
			"SHOW shared_preload_libraries":        "",
			"SHOW max_logical_replication_workers": "0",
			"SHOW max_wal_senders":                 "0",
			"SHOW archive_mode":                    "off",
			"SELECT bool_or(subenabled OR subslotname IS NOT NULL)::text FROM pg_subscription": "false",
			"SELECT fdwhandler::oid::text FROM pg_foreign_data_wrapper":                        "0",
			"SELECT count(*)::text FROM pg_stat_activity WHERE backend_type LIKE 'logical%'":   "0",
		} {
			if got := fixture.Query[string](t, dsn, sql)[0]; got != want {
				t.Errorf("%s: %q, want %q", sql, got, want)
			}
		}
	})
	receipt, err := run(t.Context(), t, d)
	if detail := failedDetail(t, receipt, err); detail != `assertion far: could not be run: foreign-data wrapper "postgres_fdw" has no handler (SQLSTATE 55000)` {
		t.Errorf("a foreign table: %s", detail)
	}
	if got := check(t, receipt, "live effects"); got.Outcome != pgmedic.OutcomeOK || !strings.Contains(got.Detail, "foreign servers are cut off") {
		t.Errorf("%+v", got)
	}
}

// TestPreload has a library preloaded for an extension that takes it.
func TestPreload(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	dsn := patients(t, "CREATE EXTENSION pg_stat_statements")
	c, b, _ := take(t, dsn, backup.Plain{})
	o := options(t, c, b)
	o.Assertions = []drill.Assertion{{Name: "loaded", SQL: "SELECT count(*) >= 0 FROM pg_stat_statements"}}
	receipt, err := run(t.Context(), t, o)
	if detail := failedDetail(t, receipt, err); !strings.Contains(detail, "must be loaded via") {
		t.Errorf("without: %s", detail)
	}
	o = options(t, c, b)
	o.Assertions = []drill.Assertion{{Name: "loaded", SQL: "SELECT count(*) >= 0 FROM pg_stat_statements"}}
	o.PreloadLibraries = []string{"pg_stat_statements"}
	if receipt, err := run(t.Context(), t, o); err != nil || receipt.Proof != pgmedic.ProofProven {
		t.Errorf("with: %+v, %v", receipt, err)
	}
}

// TestAlwaysTrigger has an event trigger that fires in sessions of replication
// too, and would write into the copy when a materialized view is refreshed.
func TestAlwaysTrigger(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	dsn := patients(t, "CREATE TABLE noted (tag text)", "CREATE MATERIALIZED VIEW many AS SELECT count(*) FROM patients",
		`CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.noted VALUES (tg_tag); END'`,
		"CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION note()",
		"ALTER EVENT TRIGGER note ENABLE ALWAYS", "COMMENT ON EVENT TRIGGER note IS 'who did what'")
	for name, method := range fixture.BothMethods(t, 2) {
		t.Run(name, func(t *testing.T) {
			c, b, _ := take(t, dsn, method)
			receipt, err := run(t.Context(), t, options(t, c, b))
			if err != nil || receipt.Proof != pgmedic.ProofProven {
				t.Errorf("%+v, %v", receipt, err)
			}
		})
	}
}

// TestAmcheckUnknown has indexes whose functions refuse to be asked again: with an error of
// their own, and as amcheck of newer releases has it, which leaves them without a search path.
// That is no damage, and their structure is checked all the same.
func TestAmcheckUnknown(t *testing.T) {
	low := func(name, body string) string {
		return "CREATE OR REPLACE FUNCTION public." + name + "(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN " + body + " END'"
	}
	const sorted = "RETURN lower($1);"
	dsn := patients(t, low("low", sorted), "CREATE INDEX patients_low ON patients (low(name))",
		low("pathless", sorted), "CREATE INDEX patients_pathless ON patients (pathless(name))")
	c, b, _ := take(t, dsn, backup.Plain{})
	o := options(t, c, b)
	at(&o, "amcheck", func() {
		fixture.Exec(t, privateOf(t, o).dsn(b.Server.BootstrapRole), low("low", "RAISE ''%'', $1;"), low("pathless", "RAISE undefined_function;"))
	})
	receipt, err := run(t.Context(), t, o)
	if err != nil || receipt.Proof != pgmedic.ProofProven {
		t.Fatalf("%+v, %v", receipt, err)
	}
	got := check(t, receipt, "indexes")
	if got.Outcome != pgmedic.OutcomeWarn || strings.Contains(got.Detail, "Patient") || strings.Contains(got.Detail, "could not be checked") {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{
		"checked in their structure alone, which is sound, and not for the rows of their tables: ",
		"index public.patients_low: its expression fails when it is evaluated again (SQLSTATE P0001)",
		"index public.patients_pathless: its expression names something that is not found: ", "(SQLSTATE 42883)",
	} {
		if !strings.Contains(got.Detail, want) {
			t.Errorf("%q lacks %q", got.Detail, want)
		}
	}
}

// TestAmcheckDamageWithoutRows: an index whose expression can't be evaluated again, and whose
// order is wrong, is damaged.
func TestAmcheckDamageWithoutRows(t *testing.T) {
	const (
		low = "CREATE OR REPLACE FUNCTION public.low(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN %s END'"
		cmp = "CREATE OR REPLACE FUNCTION public.cmp(text, text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.bttextcmp(%s)'"
	)
	dsn := patients(t, fmt.Sprintf(low, "RETURN lower($1);"), fmt.Sprintf(cmp, "$1, $2"),
		"CREATE OPERATOR CLASS shaky FOR TYPE text USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 cmp(text, text)",
		"CREATE INDEX patients_shaky ON patients (low(name) shaky)")
	c, b, _ := take(t, dsn, backup.Plain{})
	o := options(t, c, b)
	at(&o, "amcheck", func() {
		fixture.Exec(t, privateOf(t, o).dsn(b.Server.BootstrapRole), fmt.Sprintf(low, "RAISE undefined_function;"), fmt.Sprintf(cmp, "$2, $1"))
	})
	receipt, err := run(t.Context(), t, o)
	if err != nil || receipt.Proof != pgmedic.ProofFailed {
		t.Fatalf("%+v, %v", receipt, err)
	}
	if got := check(t, receipt, "indexes"); got.Outcome != pgmedic.OutcomeFailed || !strings.Contains(got.Detail, "patients_shaky") {
		t.Errorf("%+v", got)
	}
}
