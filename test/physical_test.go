package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// physicalRow is what backup --method physical says in JSON.
type physicalRow struct {
	ID              string
	Method          string
	Database        string
	Physical, Clean bool
}

func (b *walBench) physical(code int, args ...string) (row physicalRow, stderr string) {
	b.t.Helper()
	r := b.run(append([]string{"backup", "--method", "physical", "--json"}, args...)...)
	var got struct{ Backups []physicalRow }
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || r.code != code || len(got.Backups) != 1 {
		b.t.Fatalf("backup: exit code %d, %s, %v\n%s", r.code, r.stdout, err, r.stderr)
	}
	return got.Backups[0], r.stderr
}

// asReader runs as a host that has the key.
func (b *walBench) asReader(args ...string) result {
	b.t.Helper()
	env := b.env
	b.env = b.reader
	defer func() { b.env = env }()
	return b.run(args...)
}

// TestPhysical: a backup of a whole cluster from the command line, listed, shown, read back,
// refused where only one of a database will do, and restored by the script that is in it.
func TestPhysical(t *testing.T) {
	b := newWALBench(t, 0)
	b.sql("INSERT INTO ledger SELECT g, repeat('x', 100) FROM generate_series(1, 5000) AS g")
	row, _ := b.physical(0, "--label", "k=v")
	if row.Method != "physical" || row.Database != "" || !row.Physical || !row.Clean {
		t.Errorf("%+v", row)
	}
	for _, args := range [][]string{{"list"}, {"show", row.ID}, {"verify", row.ID}} {
		r := b.asReader(args...)
		if r.code != 0 || !strings.Contains(r.stdout, row.ID) {
			t.Errorf("%q: exit code %d, %s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	if r := b.asReader("show", row.ID); !strings.Contains(r.stdout, "pages checked") || !strings.Contains(r.stdout, "needs WAL") || !strings.Contains(r.stdout, "verified") {
		t.Errorf("show: %s", r.stdout)
	}
	b.damagedObjects(row.ID)
	for _, args := range [][]string{
		{"restore", row.ID, "--into", "copy"}, {"drill", row.ID}, {"diff", row.ID, "live"}, {"fetch", row.ID, filepath.Join(b.tmp, "out")},
	} {
		r := b.run(args...)
		if r.code != 2 || !strings.Contains(r.stderr, "is a physical one") || !strings.Contains(r.stderr, "hint:") {
			t.Errorf("%q: exit code %d, %s", args, r.code, r.stderr)
		}
	}
	for name, args := range map[string][]string{
		"a database": {"clinic"}, "patterns": {"--schema", "public"}, "all databases": {"--all-databases"}, "a lock timeout": {"--lock-timeout", "1s"},
		"a checkpoint that is none": {"--checkpoint", "slow"}, "a rate that is none": {"--max-rate", "1"}, "a rate in words": {"--max-rate", "fast"},
	} {
		r := b.run(append([]string{"backup", "--method", "physical"}, args...)...)
		if r.code != 2 || strings.Contains(name, "rate") && !strings.Contains(r.stderr, "50M, say") {
			t.Errorf("%s: exit code %d, %s", name, r.code, r.stderr)
		}
	}
	if r := b.run("backup", "--max-rate", "1M"); r.code != 2 || !strings.Contains(r.stderr, "physical backups only") {
		t.Errorf("a rate without the method: exit code %d, %s", r.code, r.stderr)
	}
	b.damagedPage()
}

// damagedPage damages a page of the server: the backup is stored, and says which page.
func (b *walBench) damagedPage() {
	b.t.Helper()
	b.sql("CHECKPOINT")
	path := b.ask("SELECT pg_relation_filepath('ledger')")
	f, err := os.OpenFile(filepath.Join(b.server.DataDir(), path), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{0xff, 0xff}, 2*8192+16) // where the page's special space begins
		_ = f.Close()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	row, stderr := b.physical(15)
	if row.Clean || !strings.Contains(stderr, "damaged on the server (1 page)") || !strings.Contains(stderr, "block 2 of "+path) {
		b.t.Errorf("%+v, %s", row, stderr)
	}
	for _, args := range [][]string{{"list"}, {"show", row.ID}} {
		if r := b.asReader(args...); r.code != 0 || !strings.Contains(r.stdout, "damaged") {
			b.t.Errorf("%q: exit code %d, %s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	if r := b.asReader("verify", row.ID); r.code != 0 || !strings.Contains(r.stdout, "first block 2 of "+path) {
		b.t.Errorf("verify: exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
}

// damagedObjects damages each object of a backup in turn: verify notices all of it.
func (b *walBench) damagedObjects(id string) {
	b.t.Helper()
	folder := filepath.Join(b.store, "clinic", "@cluster", id)
	names := []string{"files.ndjson.zst.age", "pack-0001", "pg_manifest.json.zst.age", "settings.json.zst.age", "recover.sh", "RECOVER.md", "manifest.json", "manifest.json.hmac"}
	for _, name := range testkit.SomeOf(b.t, 2, names) {
		path := filepath.Join(folder, name)
		good := readFile(b.t, path)
		for how, bad := range map[string][]byte{"flipped": slices.Clone(good), "cut": good[:len(good)/2]} {
			if how == "flipped" {
				bad[len(bad)/2] ^= 1
			}
			b.replace(path, bad)
			if r := b.asReader("verify", id); r.code != 11 {
				b.t.Errorf("%s is %s: exit code %d, %s%s", name, how, r.code, r.stdout, r.stderr)
			}
			b.replace(path, good)
		}
	}
	if r := b.asReader("verify", id); r.code != 0 {
		b.t.Errorf("all is as it was: exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
}

// replace writes a file that is there in its place.
func (b *walBench) replace(path string, content []byte) {
	b.t.Helper()
	if err := os.Remove(path); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// TestPhysicalByHand restores a backup with a tablespace by the script that is in it, with age
// and zstd alone.
func TestPhysicalByHand(t *testing.T) {
	testkit.OnlyAll(t, "a shell script that makes each file of a cluster")
	b := newWALBench(t, 0)
	space := filepath.Join(b.tmp, "space")
	if err := os.Mkdir(space, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("chown", "--reference="+b.server.DataDir(), space).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.sql("CREATE TABLESPACE elsewhere LOCATION '" + space + "'")
	b.sql("ALTER TABLE ledger SET TABLESPACE elsewhere")
	b.sql("INSERT INTO ledger SELECT g, repeat('x', 100) FROM generate_series(1, 5000) AS g")
	// What a standby has, and what an earlier recovery left, is in its backups, too.
	for name, text := range map[string]string{"standby.signal": "", "postgresql.conf": "\nrecovery_target_name = 'of another day'\n"} {
		file, err := os.OpenFile(filepath.Join(b.server.DataDir(), name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = file.WriteString(text)
			err = errors.Join(err, file.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	row, _ := b.physical(0)
	b.recoverByHand(row.ID, "--tablespace", b.ask("SELECT oid::text FROM pg_tablespace WHERE spcname = 'elsewhere'")+"="+filepath.Join(b.tmp, "byhand", "space"))
}

// recoverByHand restores a backup by the script that is in it, starts a server on it, and
// compares the rows.
func (b *walBench) recoverByHand(id string, options ...string) {
	b.t.Helper()
	b.recoverChainByHand([]string{id}, func(int) []string { return options })
}

// recoverChainByHand does so with a chain, the full backup first, whose scripts take files from
// what the one before has made.
func (b *walBench) recoverChainByHand(ids []string, options func(n int) []string) {
	b.t.Helper()
	t := b.t
	owner := ownerOf(t, b.server.DataDir())
	wals, err := filepath.Glob(filepath.Join(b.store, "clinic", "@wal", "*"))
	if err != nil || len(wals) != 1 {
		t.Fatalf("WAL in %v, %v", wals, err)
	}
	place := filepath.Join(b.tmp, "byhand")
	if err := os.Mkdir(place, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("chown", "-R", "--reference="+b.server.DataDir(), place, b.store).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data := filepath.Join(place, "data")
	run := func(program string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
		cmd.Dir, cmd.Env = place, append(os.Environ(), "TMPDIR="+place)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			log, _ := os.ReadFile(filepath.Join(place, "log"))
			t.Fatalf("%s: %v\n%s\n%s", program, err, out.String(), log)
		}
	}
	parent := ""
	for i, id := range ids {
		arguments := append([]string{filepath.Join(b.store, "clinic", "@cluster", id, "recover.sh"), "--identity", filepath.Join(b.tmp, "keys.txt")}, options(i)...)
		if parent != "" {
			arguments = append(arguments, "--parent", parent)
		}
		if i == len(ids)-1 {
			run("bash", append(arguments, "--wal", wals[0], data)...)
			break
		}
		parent = filepath.Join(place, fmt.Sprintf("member-%d", i))
		run("bash", append(arguments, parent)...)
	}
	pgctl := filepath.Join(b.server.BinDir(), "pg_ctl")
	run(pgctl, "-D", data, "-w", "-t", "60", "-l", filepath.Join(place, "log"), "-o", fmt.Sprintf("-c listen_addresses='' -c unix_socket_directories='%s' -c port=5555 -c hot_standby=off", place), "start")
	defer run(pgctl, "-D", data, "-m", "immediate", "stop")
	const sum = "SELECT count(*) || ' ' || md5(string_agg(n || note, ',' ORDER BY n)) FROM ledger"
	config, err := pgx.ParseConfig(b.server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	config.Host, config.Port = place, 5555
	var conn *pgx.Conn
	testkit.Eventually(t, time.Minute, "the copy has recovered", func() bool {
		conn, err = pgx.ConnectConfig(t.Context(), config)
		return err == nil
	})
	defer func() { _ = conn.Close(t.Context()) }()
	var got string
	if err := conn.QueryRow(t.Context(), sum).Scan(&got); err != nil || got != b.ask(sum) {
		t.Errorf("the copy has %q, the server %q, %v", got, b.ask(sum), err)
	}
}

// physicalPoints are the named places of a base backup.
func physicalPoints() []string {
	return []string{
		"physical-locked", "physical-started", "physical-chunk", "physical-files-stored", "physical-wal-stored", "physical-stored",
		"physical-before-commit", "physical-committed",
	}
}

// TestPhysicalKilled: killed at each step, a base backup is there or not, nothing half of it
// is listed, the server keeps no slot for it, and the next run works.
func TestPhysicalKilled(t *testing.T) {
	testkit.OnlyAll(t, "it builds the program with failpoints, and takes two backups for each")
	b := newWALBench(t, 0)
	plain := b.program
	count := 0
	for _, point := range physicalPoints() {
		t.Run(point, func(t *testing.T) {
			b.program = mortal(t)
			env := b.env
			b.env = append(slices.Clone(env), "PGMEDIC_FAILPOINT=kill:"+point)
			r := b.run("backup", "--method", "physical")
			b.env, b.program = env, plain
			if r.code == 0 {
				t.Fatalf("it was not killed: %s%s", r.stdout, r.stderr)
			}
			if point == "physical-committed" {
				count++
			}
			testkit.Eventually(t, time.Minute, "the server has let go", func() bool {
				return b.ask("SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_stat_activity WHERE starts_with(application_name, 'pgmedic'))") == "0"
			})
			b.physical(0)
			count++
			if r := b.asReader("list", "--quiet"); r.code != 0 || strings.Count(r.stdout, "\n") != count {
				t.Errorf("listed are %s, and %d were taken: %s", r.stdout, count, r.stderr)
			}
		})
	}
	if r := b.asReader("verify", "--all"); r.code != 0 {
		t.Errorf("verify: exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
}
