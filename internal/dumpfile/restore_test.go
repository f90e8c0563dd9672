package dumpfile_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/dumpfile"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// phrase is the passphrase of the encrypted dumps, and patientData stands in rows.
const phrase, patientData = "correct horse battery", "Jane Patient 1970-01-01"

// run gives a program bytes and returns what it writes.
func run(t *testing.T, in []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, stderr.String())
	}
	return out.Bytes()
}

// dumps makes a dump of each format. That of -Fd is its folder in a tar.
func dumps(t *testing.T, s *scratch.Server, database string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for name, format := range map[string]string{"plain": "p", "custom": "c", "tar": "t"} {
		all[name] = run(t, nil, filepath.Join(s.BinDir(), "pg_dump"), "-F"+format, "-d", s.DSN(database))
	}
	dir := filepath.Join(t.TempDir(), "a folder")
	run(t, nil, filepath.Join(s.BinDir(), "pg_dump"), "-Fd", "-j2", "-f", dir, "-d", s.DSN(database))
	all["directory"] = run(t, nil, "tar", "-cf", "-", "-C", filepath.Dir(dir), filepath.Base(dir))
	return all
}

// write makes a file, whose name says nothing about it.
func write(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dump.bin")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// options are those that open every dump here.
func options(t *testing.T, path string) dumpfile.Options {
	t.Helper()
	return dumpfile.Options{Path: path, Passphrase: phrase, Tools: pgtool.Finder{Dirs: []string{server.BinDir()}}, Staging: restore.Staging}
}

// bringBack restores a dump into a new database.
func bringBack(t *testing.T, s *scratch.Server, o dumpfile.Options, into string, change ...func(*restore.Options)) (*restore.Restored, error) {
	t.Helper()
	f, err := dumpfile.Open(t.Context(), o)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	check, err := f.CheckChecksum(t.Context(), "")
	if err != nil {
		return nil, err
	}
	sum, err := f.Checksum(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ro := restore.Options{
		Target: fixture.Target(t, s.DSN("postgres")), Into: into, Logger: fixture.Silent(), Now: time.Now,
		Dump: &restore.Dump{
			Name: o.Path, Open: f.Script, Checks: []pgmedic.Check{check}, ModifiedAt: f.ModifiedAt, SHA256: sum, StoredBytes: f.StoredBytes,
			SkipAmcheck: "it is another test's",
		},
	}
	for _, c := range change {
		c(&ro)
	}
	ro.Dump.Check = func(st *dumpsql.Statement) (bool, error) {
		j, err := dumpfile.CheckStatement(st, ro.Dump.Connects)
		return j == dumpfile.LeaveOut, err
	}
	if ro.Backup, err = ro.Dump.Describe(t.Context(), ro, ""); err != nil {
		return nil, err
	}
	return restore.Into(t.Context(), ro)
}

// clinic makes a database with a bit of everything that the formats store in ways of
// their own.
func clinic(t *testing.T, s *scratch.Server) string {
	t.Helper()
	dsn := scratchtest.Database(t, s)
	fixture.Exec(t, dsn,
		"CREATE TABLE patients (id int PRIMARY KEY, name text, note text)",
		"INSERT INTO patients SELECT n, '"+patientData+"', E'a\\nb\\\\.\\n\\\\! id' FROM generate_series(1, 500) AS n",
		`CREATE TABLE "Visits; DROP" (patient int REFERENCES patients, at timestamptz) PARTITION BY RANGE (at)`,
		`CREATE TABLE visits_1 PARTITION OF "Visits; DROP" FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')`,
		`INSERT INTO "Visits; DROP" SELECT n, '2026-03-01' FROM generate_series(1, 100) AS n`,
		"CREATE SEQUENCE numbers", "SELECT setval('numbers', 77)",
		"SELECT lo_from_bytea(4711, 'an image')",
		"CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM patients",
		"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'COPY x TO PROGRAM; \\! id'; $$",
		"GRANT SELECT (id) ON patients TO PUBLIC")
	return fixture.Target(t, dsn).Database()
}

// encryptions wrap a dump, each with the program that people use.
func encryptions(t *testing.T) (all map[string]func([]byte) []byte, identity age.Identity) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	// As age -p does, which asks a terminal, but in less time.
	byPhrase, err := age.NewScryptRecipient(phrase)
	if err != nil {
		t.Fatal(err)
	}
	byPhrase.SetWorkFactor(10)
	secret := write(t, []byte(phrase+"\n"))
	ssl := func(args ...string) func([]byte) []byte {
		return func(in []byte) []byte {
			return run(t, in, "openssl", append([]string{"enc", "-aes-256-cbc", "-salt", "-pass", "file:" + secret}, args...)...)
		}
	}
	return map[string]func([]byte) []byte{
		"none": func(in []byte) []byte { return in },
		"age":  func(in []byte) []byte { return run(t, in, "age", "-r", id.Recipient().String()) },
		"age passphrase": func(in []byte) []byte {
			var out bytes.Buffer
			w, err := age.Encrypt(&out, byPhrase)
			if err == nil {
				_, err = w.Write(in)
			}
			if err := errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		},
		"openssl 600000":    ssl("-pbkdf2", "-iter", "600000", "-md", "sha256"),
		"openssl pbkdf2":    ssl("-pbkdf2"),
		"openssl sha256":    ssl("-md", "sha256"),
		"openssl md5":       ssl("-md", "md5"),
		"openssl in base64": ssl("-pbkdf2", "-a"),
	}, id
}

// TestEveryKind brings every kind of dump back: each format, each compression, each
// encryption with each derivation.
func TestEveryKind(t *testing.T) {
	source := clinic(t, server)
	compressions := map[string]func([]byte) []byte{
		"none": func(in []byte) []byte { return in },
		"gz":   func(in []byte) []byte { return run(t, in, "gzip", "-c") },
		"zst":  func(in []byte) []byte { return run(t, in, "zstd", "-qc") },
		"bz2":  func(in []byte) []byte { return run(t, in, "bzip2", "-c") },
	}
	encryptions, identity := encryptions(t)
	type kind struct {
		format, compression, encryption string
	}
	made := dumps(t, server, source)
	var kinds []kind
	for format := range made {
		for compression := range compressions {
			for encryption := range encryptions {
				kinds = append(kinds, kind{format, compression, encryption})
			}
		}
	}
	want := fixture.Contents(t, fixture.Place{Server: server, Database: source})
	cases := map[string]kind{}
	for _, k := range kinds {
		cases[k.format+" "+k.compression+" "+k.encryption] = k
	}
	for name, k := range testkit.Some(t, 28, cases) {
		t.Run(name, func(t *testing.T) {
			into := fixture.Name(t, server)
			o := options(t, write(t, encryptions[k.encryption](compressions[k.compression](made[k.format]))))
			o.Identities = []age.Identity{identity}
			done, err := bringBack(t, server, o, into)
			if err != nil {
				t.Fatal(err)
			}
			if done.Incomplete {
				t.Errorf("incomplete: %q", restore.Missing(done.Checks))
			}
			fixture.WantSame(t, "contents", want, fixture.Contents(t, fixture.Place{Server: server, Database: into}))
		})
	}
}

// TestFolder brings the folder of -Fd back as it lies there.
func TestFolder(t *testing.T) {
	source, into := clinic(t, server), fixture.Name(t, server)
	dir := filepath.Join(t.TempDir(), "x")
	run(t, nil, filepath.Join(server.BinDir(), "pg_dump"), "-Fd", "-f", dir, "-d", server.DSN(source))
	done, err := bringBack(t, server, options(t, dir), into)
	if err != nil {
		t.Fatal(err)
	}
	if c := done.Checks[0]; c.Outcome != pgmedic.OutcomeSkipped || !strings.Contains(c.Detail, "not checked") {
		t.Errorf("the checksum of a folder: %+v", c)
	}
	fixture.WantEqual(t, fixture.Place{Server: server, Database: source}, fixture.Place{Server: server, Database: into})
}

// TestFolderThatOthersCanChange: a folder that another user can write to is checked and read
// as a private copy, so that a file which is swapped after the check is not read.
func TestFolderThatOthersCanChange(t *testing.T) {
	source := clinic(t, server)
	for name, open := range map[string]func(dir string) error{
		"the folder":     func(dir string) error { return os.Chmod(dir, 0o777) },
		"one above it":   func(dir string) error { return os.Chmod(filepath.Dir(dir), 0o777) },
		"a file in it":   func(dir string) error { return os.Chmod(filepath.Join(dir, "toc.dat"), 0o666) },
		"only its owner": func(string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "above", "x")
			if err := os.Mkdir(filepath.Dir(dir), 0o755); err != nil {
				t.Fatal(err)
			}
			run(t, nil, filepath.Join(server.BinDir(), "pg_dump"), "-Fd", "-Z0", "-f", dir, "-d", server.DSN(source))
			for _, path := range append(glob(t, dir, "*"), dir) { // whatever the umask is
				if err := os.Chmod(path, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := open(dir); err != nil {
				t.Fatal(err)
			}
			f, err := dumpfile.Open(t.Context(), options(t, dir))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			canary := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(canary, []byte("canary\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			// Not by a link, which newer minor releases of pg_restore refuse by themselves.
			for _, path := range glob(t, dir, "[0-9]*.dat") {
				if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("canary\n"), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			r, err := f.Script(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			_ = r.Close()
			if swapped := strings.Contains(string(text), "canary"); err != nil || swapped != (name == "only its owner") {
				t.Errorf("%v; what was swapped is read: %v", err, swapped)
			}
			// A link that is there before is refused, and nothing is left of the copy.
			for _, path := range glob(t, dir, "[0-9]*.dat") {
				if err := errors.Join(os.Remove(path), os.Symlink(canary, path)); err != nil {
					t.Fatal(err)
				}
			}
			_, err = dumpfile.Open(t.Context(), options(t, dir))
			fixture.WantKind(t, err, pgmedic.KindIntegrity, "not a regular file")
		})
	}
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("%q, %v", found, err)
	}
	return found
}

// TestCluster takes one database out of a dump of pg_dumpall, and a dump of pg_dump -C
// without what it says of the database as a whole.
func TestCluster(t *testing.T) {
	source := clinic(t, server)
	want := content(t, fixture.Place{Server: server, Database: source})
	for name, tt := range map[string]struct {
		dump   []byte
		change func(*restore.Options)
	}{
		"pg_dumpall": {run(t, nil, filepath.Join(server.BinDir(), "pg_dumpall"), "-d", server.DSN("postgres")),
			func(o *restore.Options) { o.Dump.Connects, o.Dump.Part = true, source }},
		"pg_dump -C": {run(t, nil, filepath.Join(server.BinDir(), "pg_dump"), "-C", "-d", server.DSN(source)),
			func(o *restore.Options) { o.Dump.Connects = true }},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, write(t, tt.dump))
			into := fixture.Name(t, server)
			done, err := bringBack(t, server, o, into, tt.change)
			if err != nil {
				t.Fatal(err)
			}
			if i := slices.IndexFunc(done.Checks, func(c pgmedic.Check) bool { return c.Name == "database" }); i < 0 || done.Checks[i].Outcome != pgmedic.OutcomeSkipped {
				t.Errorf("nothing says what was left out: %+v", done.Checks)
			}
			fixture.WantSame(t, "contents", want, content(t, fixture.Place{Server: server, Database: into}))
			wantRefused(t, o, pgmedic.KindIntegrity, "")
			wantRefused(t, o, pgmedic.KindNotFound, `has no database "nowhere"`, func(o *restore.Options) { o.Dump.Connects, o.Dump.Part = true, "nowhere" })
		})
	}
}

// TestClusterOfSeveral takes each database out of a dump of pg_dumpall of several: with its
// own rows, though others have tables of the same name, and without the statements that
// make the next one, which stand behind its end.
func TestClusterOfSeveral(t *testing.T) {
	scratchtest.EachComplete(t, func(t *testing.T, installation scratch.Installation) {
		s := scratchtest.New(t, scratch.Options{BinDir: installation.BinDir})
		fixture.Exec(t, s.DSN("postgres"), "CREATE ROLE ana", "CREATE TABLE patients (id int)", "INSERT INTO patients VALUES (1)")
		rows := map[string]string{"alpha": "300", "beta": "500", `Dr. "Who"'s`: "7", "zeta": "900", "empty": "0"}
		for database, n := range rows {
			name := sqltext.QuoteIdent(database)
			fixture.Exec(t, s.DSN("postgres"), "CREATE DATABASE "+name+" OWNER ana", "ALTER DATABASE "+name+" SET work_mem TO '5MB'", "ALTER ROLE ana IN DATABASE "+name+" SET search_path TO 'a;b', c",
				"GRANT CONNECT ON DATABASE "+name+" TO ana", "COMMENT ON DATABASE "+name+` IS E'a;\n\\connect alpha\n--\n-- PostgreSQL database dump complete\n--\n'`)
			fixture.Exec(t, s.DSN(database), "CREATE TABLE patients (id int)", "INSERT INTO patients SELECT generate_series(1, "+n+")",
				"CREATE TABLE "+sqltext.QuoteIdent("only in "+database)+" (id int)", "CREATE SEQUENCE numbers", "SELECT setval('numbers', 1 + "+n+")")
		}
		rows["postgres"] = "1"
		// A name that has to be quoted changes how pg_dumpall connects, and only where it is.
		for option, args := range map[string][]string{"plain": {`--exclude-database="Dr"*`}, "clean": {"--clean"}, "inserts": {"--inserts"}} {
			dump := run(t, nil, filepath.Join(s.BinDir(), "pg_dumpall"), append(args, "-d", s.DSN("postgres"), "--exclude-database=made*")...)
			for database, n := range rows {
				if (option == "plain") == strings.HasPrefix(database, "Dr") {
					continue
				}
				t.Run(option+" "+database, func(t *testing.T) {
					into := "made " + option + database
					part := func(o *restore.Options) { o.Dump.Connects, o.Dump.Part = true, database }
					o := options(t, write(t, dump))
					done, err := bringBack(t, s, o, into, part)
					if err != nil {
						t.Fatal(err)
					}
					if missing := restore.Missing(done.Checks); done.Incomplete || len(missing) > 0 {
						t.Errorf("incomplete: %q", missing)
					}
					fixture.WantSame(t, "rows", []string{n}, fixture.Query[string](t, s.DSN(into), "SELECT count(*)::text FROM patients"))
					copied := fixture.Place{Server: s, Database: into}
					fixture.WantSame(t, "contents", content(t, fixture.Place{Server: s, Database: database}), content(t, copied))
				})
			}
			// What stands between an end and the next database is not lost without a word.
			edited := bytes.Replace(dump, []byte("\nCREATE DATABASE beta "), []byte("\nCREATE TABLE late ();\nCREATE DATABASE beta "), 1)
			_, err := bringBack(t, s, options(t, write(t, edited)), "made edited", func(o *restore.Options) { o.Dump.Connects, o.Dump.Part = true, "alpha" })
			fixture.WantKind(t, err, pgmedic.KindIntegrity, "does not end as pg_dump ends a dump")
		}
	})
}

// TestClusterGlobals makes the roles of a dump of pg_dumpall first, on a server that lacks
// them, and says which of them are superusers.
func TestClusterGlobals(t *testing.T) {
	from, to := scratchtest.New(t, scratch.Options{}), scratchtest.New(t, scratch.Options{})
	fixture.Exec(t, from.DSN("postgres"), "CREATE ROLE nurses", "CREATE ROLE ana LOGIN PASSWORD 'example' IN ROLE nurses", "CREATE ROLE chief SUPERUSER",
		`COMMENT ON ROLE nurses IS E'first\n\\connect nowhere\nCREATE ROLE mallory SUPERUSER;'`, "CREATE DATABASE wards OWNER ana")
	fixture.Exec(t, from.DSN("wards"), "CREATE TABLE beds (id int)", "INSERT INTO beds VALUES (1), (2)", "ALTER TABLE beds OWNER TO nurses")
	dump := run(t, nil, filepath.Join(from.BinDir(), "pg_dumpall"), "-d", from.DSN("postgres"))
	into := func(name string, globals restore.GlobalsMode) *restore.Restored {
		done, err := bringBack(t, to, options(t, write(t, dump)), name, func(o *restore.Options) {
			o.Dump.Connects, o.Dump.Part, o.Globals = true, "wards", globals
		})
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	// Without its roles first: the second restore leaves them on the server.
	if done := into("wards_a", restore.GlobalsNone); !done.Incomplete || done.Globals != nil {
		t.Errorf("without its roles: %+v", done)
	}
	done := into("wards_b", restore.GlobalsMissing)
	if got := strings.Join(done.Globals.Made, " "); got != "ana chief nurses" || strings.Join(done.Globals.Superusers, " ") != "chief" {
		t.Errorf("%+v", done.Globals)
	}
	fixture.WantSame(t, "owner", []string{"nurses"}, fixture.Query[string](t, to.DSN("wards_b"), "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'beds'"))
	fixture.WantSame(t, "roles", []string{"false"}, fixture.Query[string](t, to.DSN("wards_b"), "SELECT (EXISTS (SELECT FROM pg_roles WHERE rolname = 'mallory'))::text"))
	fixture.WantSame(t, "member", []string{"true"}, fixture.Query[string](t, to.DSN("wards_b"), "SELECT pg_has_role('ana', 'nurses', 'MEMBER')::text"))
}

// TestTorture brings all that PostgreSQL has back from each format, with the programs
// of each version that there is.
func TestTorture(t *testing.T) {
	scratchtest.EachComplete(t, func(t *testing.T, installation scratch.Installation) {
		s := scratchtest.New(t, scratch.Options{BinDir: installation.BinDir, Settings: map[string]string{"wal_level": "logical"}})
		source := fixture.Torture(t, s, "torture")
		// A restore fills materialized views as they are now, one on another.
		for range 2 {
			fixture.Exec(t, source.DSN(), "SET session_replication_role = replica", `DO $$ DECLARE v regclass; BEGIN
				FOR v IN SELECT oid FROM pg_class WHERE relkind = 'm' AND relispopulated LOOP EXECUTE 'REFRESH MATERIALIZED VIEW ' || v; END LOOP; END $$`)
		}
		for _, options := range []string{"--inserts", "--column-inserts --rows-per-insert=3 --on-conflict-do-nothing", "--clean --if-exists", "--clean", "--quote-all-identifiers", "--disable-triggers --data-only",
			"--schema-only --no-publications", "--no-owner --use-set-session-authorization"} {
			dump := run(t, nil, filepath.Join(s.BinDir(), "pg_dump"), append(strings.Fields(options), "-d", s.DSN(source.Database))...)
			if err := checked(string(dump)); err != nil {
				t.Errorf("pg_dump %s: %v", options, err)
			}
		}
		for format, dump := range dumps(t, s, source.Database) {
			t.Run(format, func(t *testing.T) {
				o := options(t, write(t, dump))
				o.Tools.Dirs = []string{s.BinDir()}
				done, err := bringBack(t, s, o, "made_"+format)
				if err != nil {
					t.Fatal(err)
				}
				if missing := restore.Missing(done.Checks); len(missing) > 0 {
					t.Errorf("missing: %q", missing)
				}
				copied := fixture.Place{Server: s, Database: "made_" + format}
				fixture.WantSame(t, "schema", strings.Split(fixture.SchemaText(t, source), "\n"), strings.Split(fixture.SchemaText(t, copied), "\n"))
				fixture.WantSame(t, "contents", content(t, source), content(t, copied))
			})
		}
	})
}

// content is what a place holds, without what a dump does not say of its database.
func content(t *testing.T, p fixture.Place) []string {
	t.Helper()
	return slices.DeleteFunc(fixture.Contents(t, p), func(line string) bool {
		return strings.HasPrefix(line, "database ") || strings.HasPrefix(line, "setting ")
	})
}
