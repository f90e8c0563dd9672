package pgtool_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
)

// secret stands in the rows of these tests.
const secret = "123-45-6789"

func TestErrors(t *testing.T) {
	const connection = `connection to server at "db.example.com" (10.0.0.1), port 5432 failed: `
	for name, test := range map[string]struct {
		stderr string
		kind   pgmedic.Kind
		want   string // is in the message
		hint   string // is in the hint
	}{
		"wrong password": {
			"pg_dump: error: " + connection + `FATAL:  password authentication failed for user "app"`,
			pgmedic.KindUnreachable, `password authentication failed for user "app"`, "DB_PASSWORD",
		},
		"no password":      {"pg_dump: error: " + connection + "fe_sendauth: no password supplied", pgmedic.KindUnreachable, "no password supplied", "~/.pgpass"},
		"no connection":    {"pg_dump: error: " + connection + "Connection refused\n\tIs the server running?", pgmedic.KindUnreachable, "Connection refused", "server runs"},
		"no database":      {"pg_dump: error: " + connection + `FATAL:  database "shop" does not exist`, pgmedic.KindNotFound, `database "shop" does not exist`, "psql -l"},
		"starting":         {"pg_dump: error: " + connection + "FATAL:  the database system is starting up", pgmedic.KindUnreachable, "starting up", ""},
		"no privilege":     {"pg_dump: error: query failed: ERROR:  permission denied for table patients\npg_dump: detail: Query was: LOCK TABLE public.patients IN ACCESS SHARE MODE", pgmedic.KindUnreachable, "permission denied for table patients", "grant"},
		"row security":     {"pg_dump: error: Dumping the contents of table \"t\" failed: PQgetResult() failed.\npg_dump: detail: Error message from server: ERROR:  query would be affected by row-level security policy for table \"t\"\nHINT:  x\npg_dump: detail: Command was: COPY public.t (a) TO stdout;", pgmedic.KindUnreachable, "row-level security policy for table", "BYPASSRLS"},
		"lock timeout":     {"pg_dump: error: query failed: ERROR:  canceling statement due to lock timeout\npg_dump: detail: Query was: LOCK TABLE public.t", pgmedic.KindConflict, "lock timeout", "lock_timeout"},
		"other version":    {"pg_dump: error: server version: 17.2; pg_dump version: 15.1\npg_dump: error: aborting because of server version mismatch", pgmedic.KindUsage, "server version mismatch", "PGMEDIC_POSTGRES_DIRS"},
		"connection":       {"pg_dump: error: Dumping the contents of table \"t\" failed: PQgetCopyData() failed.\npg_dump: detail: Error message from server: server closed the connection unexpectedly", pgmedic.KindUnreachable, "closed the connection", "log"},
		"shared memory":    {"pg_dump: error: query failed: ERROR:  out of shared memory\nHINT:  You might need to increase max_locks_per_transaction.", pgmedic.KindFailed, "out of shared memory", "max_locks_per_transaction"},
		"damage":           {"pg_dump: detail: Error message from server: ERROR:  invalid page in block 3 of relation base/5/16384", pgmedic.KindFailed, "invalid page in block 3", "damage"},
		"a reset":          {"pg_dumpall: error: query failed: could not receive data from server: Connection reset by peer\npg_dumpall: detail: Query was: SELECT oid FROM pg_authid", pgmedic.KindUnreachable, "Connection reset by peer", "network"},
		"a broken pipe":    {"pg_dump: error: query failed: could not send data to server: Broken pipe", pgmedic.KindUnreachable, "Broken pipe", "network"},
		"no session":       {"pg_dumpall: error: query failed: no connection to the server", pgmedic.KindUnreachable, "no connection", "network"},
		"TLS is cut":       {"pg_dump: error: query failed: SSL SYSCALL error: EOF detected", pgmedic.KindUnreachable, "EOF detected", "network"},
		"no such snapshot": {`pg_dump: error: query failed: ERROR:  snapshot "00000003-0000001B-1" does not exist`, pgmedic.KindUnreachable, "snapshot", "restart"},
		"snapshot":         {`pg_dump: error: query failed: ERROR:  could not import the requested snapshot`, pgmedic.KindUnreachable, "snapshot", "restart"},
		"too large":        {"pg_dump: error: Dumping the contents of table \"scan\" failed: PQgetResult() failed.\npg_dump: detail: Error message from server: ERROR:  invalid memory alloc request size 1258291203\npg_dump: detail: Command was: COPY public.scan (id, b) TO stdout;", pgmedic.KindFailed, "alloc request size 1258291203", "--method parallel"},
		"too large for 15": {"pg_dump: detail: Error message from server: ERROR:  out of memory\nDETAIL:  Cannot enlarge string buffer containing 536870922 bytes by 1073741822 more bytes.", pgmedic.KindFailed, "Cannot enlarge string buffer", "--method parallel"},
		"too large for 17": {"pg_dump: detail: Error message from server: ERROR:  string buffer exceeds maximum allowed length (1073741823 bytes)\nDETAIL:  Cannot enlarge string buffer containing 2 bytes by 1073741822 more bytes.", pgmedic.KindFailed, "string buffer exceeds", "--method parallel"},
		"a damaged length": {"pg_dump: detail: Error message from server: ERROR:  invalid memory alloc request size 18446744073709551613", pgmedic.KindFailed, "alloc request size 18446744073709551613", "damage"},
		"another length":   {"pg_dump: detail: Error message from server: ERROR:  invalid memory alloc request size 4294967297", pgmedic.KindFailed, "alloc request size", "damage"},
		"an extension":     {"pg_restore: error: could not execute query: ERROR:  permission denied to create extension \"pg_stat_statements\"\nHINT:  Must be superuser to create this extension.", pgmedic.KindUnreachable, `permission denied to create extension "pg_stat_statements"`, "nothing about the backup"},
		"refused":          {"pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 1; 2 3 INDEX x\npg_restore: error: could not execute query: ERROR:  could not create unique index \"x\"\nDETAIL:  Key (ssn)=(" + secret + ") is duplicated.\nCommand was: CREATE", pgmedic.KindFailed, "refused a statement", "--show-data-in-errors"},
		"refused rows":     {"pg_restore: error: COPY failed for table \"t\": ERROR:  invalid input syntax for type integer: \"" + secret + "\"\nCONTEXT:  COPY t, line 1", pgmedic.KindFailed, "refused a statement", "--show-data-in-errors"},
		"quoted refusal":   {"pg_restore: error: x\nDETAIL:  Key (pg_restore: error: could not execute query: ERROR:  " + secret + ")", pgmedic.KindFailed, "ended with", ""},
		"French restore":   {"pg_restore: error: could not execute query: ERREUR:  la valeur d'une clé dupliquée rompt la contrainte unique « k »\nDETAIL:  La clé « (ssn)=(" + secret + ") » existe déjà.\nCommand was: ALTER TABLE", pgmedic.KindFailed, "another language", "lc_messages"},
		"unknown":          {"pg_dump: error: cannot decide on " + secret, pgmedic.KindFailed, "ended with exit status 1", "--show-data-in-errors"},

		// Rows must not come through, whatever stands in them.
		"detail":             {"pg_restore: error: ERROR:  duplicate key value violates unique constraint \"k\"\nDETAIL:  Key (ssn)=(" + secret + ") already exists.", pgmedic.KindFailed, "ended with", ""},
		"context":            {"pg_restore: error: ERROR:  invalid input syntax for type integer: \"" + secret + "\"\nCONTEXT:  COPY patients, line 1, column ssn: \"" + secret + "\"", pgmedic.KindFailed, "ended with", ""},
		"row like a message": {"pg_restore: error: ERROR:  bad row\nDETAIL:  Failing row contains (permission denied for table x " + secret + ").", pgmedic.KindFailed, "ended with", ""},
		"row of lines":       {"pg_restore: error: ERROR:  bad row\nCONTEXT:  COPY t, line 1: \"a\nERROR:  server version mismatch " + secret + "\nNo space left on device " + secret + "\"", pgmedic.KindFailed, "ended with", ""},
		"query like a message": {"pg_dump: error: query failed: ERROR:  whatever\npg_dump: detail: Query was: SELECT 'password authentication failed for user " + secret + "'",
			pgmedic.KindFailed, "ended with", ""},
	} {
		t.Run(name, func(t *testing.T) {
			script := "cat >&2 <<'END'\n" + test.stderr + "\nEND\nexit 1"
			err := pgtool.Run(t.Context(), pgtool.Command{Tool: fake(t, "pg_dump", script)})
			if pgmedic.KindOf(err) != test.kind || !strings.Contains(message(err), test.want) || !strings.Contains(pgmedic.HintOf(err), test.hint) {
				t.Errorf("%s: %v (%s)", pgmedic.KindOf(err), err, pgmedic.HintOf(err))
			}
			if strings.Contains(message(err)+pgmedic.HintOf(err), secret) || strings.Contains(message(err), "\n") {
				t.Errorf("it says too much: %v", err)
			}
			var e *pgtool.Error
			if !errors.As(err, &e) || e.Unredacted() != test.stderr || e.Full != test.stderr {
				t.Errorf("unredacted: %+v", e)
			}
		})
	}
}

// TestErrorKeepsBothEnds: of a program that talks without end, the beginning
// and the end are kept, in bounded memory.
func TestErrorKeepsBothEnds(t *testing.T) {
	script := "echo first >&2; yes 'in between' | head -c 2000000 >&2; echo last >&2; exit 1"
	err := pgtool.Run(t.Context(), pgtool.Command{Tool: fake(t, "pg_dump", script)})
	var e *pgtool.Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if !strings.HasPrefix(e.Full, "first\n") || !strings.HasSuffix(e.Full, "last") || len(e.Full) > 1<<17 {
		t.Errorf("kept %d bytes: %.40q", len(e.Full), e.Full)
	}
}
