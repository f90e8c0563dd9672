package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestRescue deletes rows and puts them back by pasting what is printed.
func TestRescue(t *testing.T) {
	for _, method := range testkit.SomeOf(t, 1, []string{"plain", "parallel"}) {
		t.Run(method, func(t *testing.T) {
			b := newBench(t, append(patients("5000"), "CREATE SCHEMA audit", "CREATE TABLE audit.\"Who\nsaw\" (\"what\x07\" text)",
				"INSERT INTO audit.\"Who\nsaw\" VALUES ('x'), ('x'), ('y')")...)
			b.env = append(b.env, "BACKUP_METHOD="+method)
			id := strings.TrimSpace(b.ok("backup", "-q"))
			sum := func() []string {
				return query(t, b.database, "SELECT (SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM patients p) || (SELECT string_agg(w::text, '|' ORDER BY w::text) FROM audit.\"Who\nsaw\" w)")
			}
			want := sum()
			mustExec(t, b.database, "DELETE FROM patients WHERE id % 3 = 0", "DELETE FROM audit.\"Who\nsaw\" WHERE ctid = '(0,1)'")

			if out := b.ok("restore", id, "--table", "patients", "--table", "audit.*", "--dry-run"); !strings.Contains(out, "nothing was made") || !strings.Contains(out, "5,000") {
				t.Errorf("a dry run says:\n%s", out)
			}
			if schemas := query(t, b.database, "SELECT nspname FROM pg_namespace WHERE nspname ~ '^pgmedic'"); len(schemas) > 0 {
				t.Errorf("a dry run made %q", schemas)
			}
			out := b.ok("restore", "latest", "--table", "patients", "--table", "audit.*")
			if strings.ContainsAny(out, "\x07\x1b") {
				t.Errorf("it prints a control character:\n%q", out)
			}
			_, sql, _ := strings.Cut(out, "\n-- ")
			psql := exec.Command(filepath.Join(server.BinDir(), "psql"), "-X", "-v", "ON_ERROR_STOP=1", "-d", server.DSN(b.database))
			psql.Stdin = strings.NewReader("-- " + sql)
			if said, err := psql.CombinedOutput(); err != nil {
				t.Fatalf("paste: %v: %s\n%s", err, said, sql)
			}
			if got := sum(); !slices.Equal(got, want) {
				t.Error("the rows are not what they were")
			}
			if schemas := query(t, b.database, "SELECT nspname FROM pg_namespace WHERE nspname ~ '^pgmedic'"); len(schemas) > 0 {
				t.Errorf("the clean-up left %q", schemas)
			}

			var told struct {
				Schema string `json:"schema"`
				Tables []struct {
					Rows int64             `json:"rows"`
					SQL  map[string]string `json:"sql"`
				} `json:"tables"`
			}
			if err := json.Unmarshal([]byte(b.ok("restore", id, "--table", "patients", "--json")), &told); err != nil {
				t.Fatal(err)
			}
			if len(told.Tables) != 1 || told.Tables[0].Rows != 5000 || !strings.HasPrefix(told.Tables[0].SQL["put_back"], "INSERT INTO") {
				t.Errorf("as JSON: %+v", told)
			}
			if r := b.run("restore", id, "--table", "patients"); r.code != 14 {
				t.Errorf("a second time: exit code %d: %s", r.code, r.stderr)
			}
			out = b.ok("restore", id, "--table", "audit.*", "-q", "--database", b.database, "--jobs", "1")
			if out != told.Schema+"\n" {
				t.Errorf("-q prints %q, want the schema %s", out, told.Schema)
			}
		})
	}
}

// TestRescueRefusals tries what can't be done from the command line.
func TestRescueRefusals(t *testing.T) {
	b := newBench(t, patients("10")...)
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"restore", "latest", "--table", "patients", "--swap"}, 2, "exclude each other"},
		{[]string{"restore", "latest", "--table", "patients", "--into", "x"}, 2, "exclude each other"},
		{[]string{"restore", "latest", "--table", "patients", "--no-owner"}, 2, "for --into"},
		{[]string{"restore", "latest", "--swap", "--schema-only"}, 2, "for --into"},
		{[]string{"restore", "latest", "--table", "patients", "--standbys-handled"}, 2, "for --swap"},
		{[]string{"restore", "latest", "--dry-run"}, 2, "say where"},
		{[]string{"restore", "--table", "patients"}, 2, "no backup is named"},
		{[]string{"restore", "latest", "--table", "patients"}, 10, "no backup"},
	} {
		if r := b.run(tt.args...); r.code != tt.code || !strings.Contains(r.stderr, tt.says) {
			t.Errorf("%v: exit code %d, want %d: %s", tt.args, r.code, tt.code, r.stderr)
		}
	}
}

// TestRescueEncrypted needs the key.
func TestRescueEncrypted(t *testing.T) {
	b := newBench(t, patients("10")...)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "BACKUP_METHOD=parallel", "BACKUP_RECIPIENTS="+identity.Recipient().String())
	id := strings.TrimSpace(b.ok("backup", "-q"))
	if r := b.run("restore", id, "--table", "patients"); r.code != 2 || !strings.Contains(r.stderr, "this host has no key") {
		t.Errorf("without a key: exit code %d: %s", r.code, r.stderr)
	}
	file := filepath.Join(b.dir, "identity.txt")
	if err := os.WriteFile(file, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "PGMEDIC_IDENTITY_FILES="+file)
	schema := strings.TrimSpace(b.ok("restore", id, "--table", "patients", "-q"))
	if got := query(t, b.database, "SELECT count(*)::text FROM "+schema+".patients"); !slices.Equal(got, []string{"10"}) {
		t.Errorf("%q patients", got)
	}
}

// TestPruneOfARescue drops the schema of a rescue that is named; where that can't be
// done, the exit code and an error say so.
func TestPruneOfARescue(t *testing.T) {
	b := newBench(t, patients("100")...)
	id := b.backup()
	b.ok("restore", id, "--table", "public.patients")
	schema := query(t, b.database, "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'pgmedic\\_rescue\\_%'")[0]
	there := func() bool {
		return query(t, b.database, "SELECT count(*)::text FROM pg_namespace WHERE nspname = $1", schema)[0] == "1"
	}
	named := []string{"prune", "--rescued", b.database + "." + schema}
	if out := b.ok(append(named, "--dry-run")...); !strings.Contains(out, "it is asked for") || !there() {
		t.Errorf("a dry run says\n%s", out)
	}
	if out := b.ok(named...); !strings.Contains(out, "--yes does it") || !there() {
		t.Errorf("without --yes it says\n%s", out)
	}
	mustExec(t, b.database, "CREATE VIEW looks AS SELECT * FROM "+schema+".patients")
	if r := b.run(append(named, "--yes")...); r.code != 14 || !strings.Contains(r.stderr, "is kept: something else depends on its tables") || !there() {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	mustExec(t, b.database, "DROP VIEW looks")
	if out := b.ok(append(named, "--yes", "-q")...); strings.TrimSpace(out) != b.database+"."+schema || there() {
		t.Errorf("it prints %q", out)
	}
	if r := b.run(named...); r.code != 10 {
		t.Errorf("once more: exit code %d\n%s", r.code, r.stderr)
	}
}
