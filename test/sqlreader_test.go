package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// stillSum is of a table that nothing writes to between two backups.
const stillSum = "SELECT count(*) || ' ' || coalesce(md5(string_agg(n || note, ',' ORDER BY n)), '') FROM still"

// sqlChain takes a chain of three of a cluster with a tablespace, on a host that can only write.
func (b *walBench) sqlChain() (ids []string, oid string) {
	b.t.Helper()
	space := filepath.Join(b.tmp, "space")
	if err := os.Mkdir(space, 0o700); err != nil {
		b.t.Fatal(err)
	}
	if out, err := exec.CommandContext(b.t.Context(), "chown", "--reference="+b.server.DataDir(), space).CombinedOutput(); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	b.sql("CREATE TABLESPACE elsewhere LOCATION '" + space + "'")
	b.sql("CREATE TABLE still TABLESPACE elsewhere AS SELECT n, repeat('s', 200) AS note FROM generate_series(1, 5000) AS n")
	b.sql("INSERT INTO ledger SELECT g, repeat('x', 200) FROM generate_series(1, 5000) AS g")
	b.sql("CHECKPOINT")
	b.sql("CREATE TABLE settled AS SELECT pg_catalog.clock_timestamp() AS at")
	testkit.Eventually(b.t, time.Minute, "what was written is old enough to be kept", func() bool {
		return b.ask("SELECT (pg_catalog.clock_timestamp() > at + interval '4 seconds')::text FROM settled") == "true"
	})
	for i, statement := range []string{"UPDATE ledger SET note = 'none' WHERE n = 0", "UPDATE ledger SET note = 'first' WHERE n = 7", "INSERT INTO ledger VALUES (10000, 'second')"} {
		b.sql(statement)
		row, stderr := b.physical(0, "--reader", "sql", "--incremental")
		kind, parent := b.kindOf(row.ID)
		if i == 0 && kind != "full" || i > 0 && (kind != "incremental" || parent != ids[i-1]) {
			b.t.Fatalf("backup %d is %s of %q: %s", i, kind, parent, stderr)
		}
		ids = append(ids, row.ID)
	}
	return ids, b.ask("SELECT oid::text FROM pg_tablespace WHERE spcname = 'elsewhere'")
}

// TestSQLReader is the whole way by the command line, on a host that can only write: a chain of
// backups whose files were read by SQL, which is verified, proven by a drill, restored, and refused
// where a part of it is gone.
func TestSQLReader(t *testing.T) {
	testkit.OnlyAll(t, "three backups, a drill and a restore")
	b := newWALBench(t, 0)
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.wantStreaming()
	ids, _ := b.sqlChain()
	space := filepath.Join(b.tmp, "space")
	at := b.ask("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'")
	b.sql("INSERT INTO ledger VALUES (10001, 'third')")
	want, still := b.ask(ledgerSum), b.ask(stillSum)
	for _, id := range ids {
		if r := b.asReader("verify", id); r.code != 0 {
			t.Errorf("verify %s: exit code %d, %s%s", id, r.code, r.stdout, r.stderr)
		}
	}
	if r := b.asReader("show", ids[2]); !strings.Contains(r.stdout, "incremental, number 3 of a chain; needs backup "+ids[1]+"; files read by SQL") {
		t.Errorf("show: %s", r.stdout)
	}
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
	}
	b.reader = append(b.reader, "PGMEDIC_POSTGRES_DIRS="+b.server.BinDir())
	var drilled pgmedic.Receipt
	r := b.asReader("drill", "--at", at, "--json")
	if err := json.Unmarshal([]byte(r.stdout), &drilled); r.code != 0 || err != nil || drilled.BackupID != ids[2] || drilled.Proof != pgmedic.ProofProven || drilled.PITR == nil {
		t.Errorf("drill of a moment from a chain: exit code %d, %v, %s%s", r.code, err, r.stdout, r.stderr)
	}
	c := b.restoring()
	port := c.port()
	done, r := c.restore(0, "chain", ids[2], "--tablespace", space+"="+filepath.Join(c.place, "moved"), "--start", "--start-port", port)
	if done.Backup != ids[2] || done.Started == nil || !done.Started.Running {
		t.Fatalf("restore: %s", r.stdout)
	}
	if got := c.asks(port, ledgerSum); got != want {
		t.Errorf("the ledger is %s, want %s", got, want)
	}
	if got := c.asks(port, stillSum); got != still {
		t.Errorf("the table that was not written to is %s, want %s", got, still)
	}
	folder := filepath.Join(b.store, "clinic", "@cluster", ids[0])
	if err := os.Rename(folder, folder+"-away"); err != nil {
		t.Fatal(err)
	}
	_, r = c.restore(11, "broken", ids[2], "--tablespace", space+"="+filepath.Join(c.place, "broken-space"), "--to-backup")
	if !strings.Contains(r.stderr, "needs backup "+ids[0]) {
		t.Errorf("without the full backup: %s", r.stderr)
	}
	for _, what := range []string{ids[2], "--all"} {
		if r := b.asReader("verify", what); r.code != 11 || !strings.Contains(r.stderr, "needs backup "+ids[0]) {
			t.Errorf("verify %s without the full backup: exit code %d, %s", what, r.code, r.stderr)
		}
	}
}

// TestSQLReaderByHand restores such a chain by the scripts that are in it, and has each refuse what
// the one before has not made.
func TestSQLReaderByHand(t *testing.T) {
	testkit.OnlyAll(t, "shell scripts that make each file of a cluster three times")
	b := newWALBench(t, 0)
	ids, oid := b.sqlChain()
	script := filepath.Join(b.store, "clinic", "@cluster", ids[2], "recover.sh")
	options := []string{script, "--identity", filepath.Join(b.tmp, "keys.txt"), "--tablespace", oid + "=" + filepath.Join(b.tmp, "refused-space"), "--no-check"}
	for says, more := range map[string][]string{
		"--parent FOLDER":                {filepath.Join(b.tmp, "refused")},
		"recover.sh of backup " + ids[1]: {"--parent", b.server.DataDir(), filepath.Join(b.tmp, "refused")},
	} {
		out, err := exec.CommandContext(t.Context(), "bash", slices.Concat(options, more)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), says) {
			t.Errorf("%q: %v, %s", more, err, out)
		}
		if _, err := os.Stat(filepath.Join(b.tmp, "refused")); !os.IsNotExist(err) {
			t.Errorf("%q: something was restored", more)
		}
	}
	if program, err := exec.LookPath("shellcheck"); err == nil {
		if out, err := exec.CommandContext(t.Context(), program, script).CombinedOutput(); err != nil {
			t.Errorf("shellcheck: %v\n%s", err, out)
		}
	}
	b.recoverChainByHand(ids, func(n int) []string {
		return []string{"--tablespace", oid + "=" + filepath.Join(b.tmp, "byhand", fmt.Sprintf("space-%d", n))}
	})
}

// TestSQLReaderKilled: killed at each step, a backup is listed or not, and the next one works.
func TestSQLReaderKilled(t *testing.T) {
	testkit.OnlyAll(t, "it builds the program with failpoints, and takes two backups for each")
	b := newWALBench(t, 0)
	plain, count := b.program, 0
	for _, point := range []string{"physical-chunk", "physical-committed"} {
		b.program = mortal(t)
		env := b.env
		b.env = append(slices.Clone(env), "PGMEDIC_FAILPOINT=kill:"+point)
		r := b.run("backup", "--method", "physical", "--reader", "sql", "--incremental")
		b.env, b.program = env, plain
		if r.code == 0 {
			t.Fatalf("%s: it was not killed: %s%s", point, r.stdout, r.stderr)
		}
		if point == "physical-committed" {
			count++
		}
		testkit.Eventually(t, time.Minute, "the server has let go", func() bool {
			return b.ask("SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgmedic%') || ''") == "0"
		})
		b.physical(0, "--reader", "sql", "--incremental")
		count++
		if r := b.asReader("list", "--quiet"); r.code != 0 || strings.Count(r.stdout, "\n") != count {
			t.Errorf("%s: listed are %s, and %d were taken: %s", point, r.stdout, count, r.stderr)
		}
	}
	if r := b.asReader("verify", "--all"); r.code != 0 {
		t.Errorf("verify: exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
}

// TestSQLReaderGrants: check and the backup say what the role lacks, and nothing is stored without
// it; what the reader does not heed is refused.
func TestSQLReaderGrants(t *testing.T) {
	testkit.OnlyAll(t, "a server for some errors")
	b := newWALBench(t, 0)
	b.sql("CREATE ROLE replicator LOGIN REPLICATION")
	env := b.env
	b.env = append(slices.Clone(env), "DATABASE_URL="+strings.Replace(b.server.URL("postgres"), "//"+b.server.Superuser(), "//replicator", 1), "PGMEDIC_READER=sql")
	for _, args := range [][]string{{"check", "postgres"}, {"backup", "--method", "physical"}} {
		r := b.run(args...)
		if said := r.stdout + r.stderr; r.code == 0 || args[0] == "backup" && r.code != 2 || !strings.Contains(said, "may not call pg_backup_start, pg_backup_stop, pg_ls_dir, pg_stat_file, pg_read_binary_file") ||
			!strings.Contains(said, "GRANT EXECUTE ON FUNCTION pg_catalog.pg_backup_start(text, boolean), ") || !strings.Contains(said, `TO "replicator";`) {
			t.Errorf("%q: exit code %d, %s", args, r.code, said)
		}
	}
	if _, err := os.Stat(filepath.Join(b.store, "clinic")); !os.IsNotExist(err) {
		t.Errorf("something is stored: %v", err)
	}
	b.env = env
	if r := b.run("backup", "--method", "physical", "--reader", "sql", "--max-rate", "1M"); r.code != 2 || !strings.Contains(r.stderr, "--max-rate with --reader sql") {
		t.Errorf("a rate: exit code %d, %s", r.code, r.stderr)
	}
	if r := b.run("backup", "--reader", "sql"); r.code != 2 || !strings.Contains(r.stderr, "physical backups only") {
		t.Errorf("without the method: exit code %d, %s", r.code, r.stderr)
	}
}
