package test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// as makes the bench connect as a role over TCP.
func (b *bench) as(role string) {
	b.t.Helper()
	u, err := url.Parse(server.URL(b.database))
	if err != nil {
		b.t.Fatal(err)
	}
	u.User = url.UserPassword(role, password)
	b.env = b.environ("DATABASE_URL=" + u.String())
}

// runScript runs SQL as psql would, several statements at once.
func runScript(t *testing.T, database, sql string) {
	t.Helper()
	ctx := context.Background()
	conn := testkit.Dial(t, server.DSN(database))
	defer testkit.End(conn)
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
}

// ward is a database of an ordinary role, with what takes privileges to back
// up and to restore: large objects, row-level security (forced too), a trusted
// extension, default privileges, a second owner.
const ward = `
CREATE EXTENSION pgcrypto;
CREATE SCHEMA ward AUTHORIZATION e2e_owner;
CREATE SCHEMA staff AUTHORIZATION e2e_nurse;
SET ROLE e2e_owner;
CREATE TABLE ward.patients (id int PRIMARY KEY, doctor name);
INSERT INTO ward.patients SELECT i, 'nobody' FROM generate_series(1, 300) AS i;
ALTER TABLE ward.patients ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON ward.patients USING (doctor = current_user);
CREATE TABLE ward.notes (id bigint GENERATED ALWAYS AS IDENTITY, patient int REFERENCES ward.patients);
INSERT INTO ward.notes (patient) SELECT i FROM generate_series(1, 200) AS i;
ALTER TABLE ward.notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE ward.notes FORCE ROW LEVEL SECURITY;
CREATE VIEW ward.ids AS SELECT id FROM ward.patients;
ALTER DEFAULT PRIVILEGES IN SCHEMA ward GRANT SELECT ON TABLES TO e2e_nurse;
SELECT lo_from_bytea(0, 'an x-ray');
RESET ROLE;
SET ROLE e2e_nurse;
CREATE TABLE staff.shifts AS SELECT generate_series(1, 50) AS id;
RESET ROLE;`

// TestRoles gives the roles that init prints their work to do. It is one test,
// for roles are the server's.
func TestRoles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	runScript(t, "postgres", "CREATE ROLE e2e_owner; CREATE ROLE e2e_nurse; ALTER DATABASE "+b.database+" OWNER TO e2e_owner")
	runScript(t, b.database, ward)
	mustExec(t, b.database, "ANALYZE") // or autovacuum would, at a time of its own
	roles := b.ok("init", "--roles-only")
	t.Cleanup(func() {
		dropAll(t, b.database)
		for _, role := range []string{"pgmedic_monitor", "pgmedic_backup", "pgmedic_restore", "pgmedic_replication", "e2e_owner", "e2e_nurse"} {
			mustExec(t, "postgres", "DROP OWNED BY "+role, "DROP ROLE "+role)
		}
	})
	runScript(t, b.database, roles)
	for _, role := range []string{"pgmedic_monitor", "pgmedic_backup", "pgmedic_restore", "pgmedic_replication"} {
		mustExec(t, "postgres", fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", role, password))
	}

	if err := os.Mkdir(b.store, 0o700); err != nil { // a store that is missing is not looked at
		t.Fatal(err)
	}
	b.as("pgmedic_monitor")
	// It may look at everything but hashes of passwords and what is data: values of
	// sequences, and statistics of columns, which quote rows.
	out := strings.Join(strings.Fields(b.ok("report")), " ")
	for _, allowed := range []string{
		"how passwords are kept (settings): this role lacks", "values of sequences (limits): 1 sequence can't be read by this role",
		"bloat of tables (tables): 3 tables with columns that were never analyzed, or whose statistics this role may not see",
		"bloat of indexes (indexes): 1 index of a table with columns that were never analyzed, or whose statistics this role may not see",
	} {
		if !strings.Contains(out, allowed) {
			t.Errorf("the report does not say %q", allowed)
		}
		out = strings.Replace(out, allowed, "", 1)
	}
	if strings.Contains(out, "this role") {
		t.Errorf("pgmedic_monitor may not look at everything:\n%s", out)
	}
	if r := b.run("backup"); r.code != 12 {
		t.Errorf("a backup as pgmedic_monitor: exit code %d\n%s", r.code, r.stderr)
	}

	b.as("pgmedic_backup")
	b.ok("check")
	id := b.backup()
	b.ok("drill", id)
	if r := b.run("restore", id, "--swap", "--yes"); r.code == 0 {
		t.Error("pgmedic_backup replaces a database")
	}
	mustExec(t, b.database, "SELECT lo_from_bytea(0, 'a later one')")
	if r := b.run("check"); r.code != 12 || !strings.Contains(r.stdout, "may not read 1 large objects") {
		t.Errorf("a large object that can't be read: exit code %d\n%s", r.code, r.stdout)
	}
	if r := b.run("backup"); r.code != 12 {
		t.Errorf("a backup without a large object: exit code %d\n%s", r.code, r.stderr)
	}
	mustExec(t, b.database, "SELECT lo_unlink(max(oid)) FROM pg_largeobject_metadata")

	b.as("pgmedic_replication")
	env := b.env
	b.env = append(slices.Clone(env), "PGMEDIC_WAL_STREAM=true")
	if r := b.run("check"); !strings.Contains(r.stdout, "the server takes this role's connections for replication") {
		t.Errorf("as pgmedic_replication, check says\n%s%s", r.stdout, r.stderr)
	}
	b.env = env
	if r := b.run("backup"); r.code != 12 {
		t.Errorf("a backup as pgmedic_replication: exit code %d\n%s", r.code, r.stderr)
	}

	b.as("pgmedic_restore")
	mustExec(t, b.database, "DELETE FROM ward.notes")
	b.ok("check")
	b.ok("restore", id, "--swap", "--yes", "--show-data-in-errors")
	if n := query(t, b.database, "SELECT count(*)::text FROM ward.notes"); n[0] != "200" {
		t.Errorf("%s notes are back", n[0])
	}
	if owners := query(t, b.database, `SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace IN ('ward'::regnamespace, 'staff'::regnamespace) ORDER BY 1`); strings.Join(owners, " ") != "e2e_nurse e2e_owner" {
		t.Errorf("owners are %q", owners)
	}
	b.ok("rollback", b.database, "--yes")
	if n := query(t, b.database, "SELECT count(*)::text FROM ward.notes"); n[0] != "0" {
		t.Errorf("%s notes after the rollback", n[0])
	}
}
