package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/pitr"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// drillMoment runs a drill of a moment, whose scratch is in a folder of its own, and looks
// that nothing is left of it.
func (b *walBench) drillMoment(code int, args ...string) (r pgmedic.Receipt, stderr string) {
	b.t.Helper()
	scratches := filepath.Join(b.tmp, "scratches")
	if err := os.MkdirAll(scratches, 0o755); err != nil {
		b.t.Fatal(err)
	}
	got := b.asReader(append([]string{"drill", "--json", "--scratch-dir", scratches}, args...)...)
	if err := json.Unmarshal([]byte(got.stdout), &r); got.code != code || err != nil && code == 0 {
		b.t.Fatalf("drill %q: exit code %d, want %d; %v, %s%s", args, got.code, code, err, got.stdout, got.stderr)
	}
	if left, err := os.ReadDir(scratches); err != nil || len(left) > 0 {
		b.t.Errorf("drill %q left %v, %v", args, left, err)
	}
	return r, got.stderr
}

// outcomeOf is that of a check whose name begins so.
func outcomeOf(r pgmedic.Receipt, name string) (o pgmedic.Outcome, detail string) {
	for _, c := range r.Checks {
		if strings.HasPrefix(c.Name, name) {
			return c.Outcome, c.Detail
		}
	}
	return "", ""
}

// TestDrillMoment drills a moment that is given and one that is drawn, on the host of the
// source, with a tablespace that was made after the base backup. Not one file of the source
// changes.
func TestDrillMoment(t *testing.T) {
	b := newWALBench(t, 0)
	drillMoments(t, b)
}

func drillMoments(t *testing.T, b *walBench) (moment string) {
	t.Helper()
	space, earlier := b.serverFolder("s"), b.serverFolder("earlier")
	var position, point string
	id := b.streamed(func() {
		b.sql(`CREATE SCHEMA "a b"`)
		b.sql(`CREATE TABLE "a b".clinics (a int, "b c" text, PRIMARY KEY (a, "b c")) PARTITION BY HASH (a)`)
		b.sql(`CREATE TABLE "a b".clinics_0 PARTITION OF "a b".clinics FOR VALUES WITH (MODULUS 1, REMAINDER 0)`)
		b.sql(`CREATE TABLE visits (x bigint, y varchar, FOREIGN KEY (x, y) REFERENCES "a b".clinics (a, "b c"))`)
		b.sql(`INSERT INTO "a b".clinics SELECT g, g FROM generate_series(1, 9) AS g`)
		b.sql(`INSERT INTO visits SELECT a, "b c" FROM "a b".clinics UNION ALL SELECT 77, NULL`)
		b.sql("CREATE TABLESPACE earlier LOCATION '" + earlier + "'")
		b.sql("CREATE TABLE before TABLESPACE earlier AS SELECT generate_series(1, 1000) AS n")
	}, func() {
		b.sql("CREATE TABLESPACE later LOCATION '" + space + "'")
		b.sql("CREATE TABLE behind TABLESPACE later AS SELECT generate_series(1, 1000) AS n")
		b.sql("INSERT INTO ledger SELECT g, repeat('y', 1000) FROM generate_series(2, 3000) AS g")
		position = b.ask("SELECT pg_current_wal_insert_lsn()::text")
		moment = b.ask("SELECT clock_timestamp()::timestamptz(6)::text")
		point = b.ask("SELECT pg_create_restore_point('before the deletion')::text")
		b.sql("DELETE FROM behind WHERE n > 10")
		b.sql("DELETE FROM ledger WHERE n > 5")
		b.sql("SELECT pg_switch_wal()") // the index is of whole segments
		b.sql("INSERT INTO ledger VALUES (-1, 'later')")
	})
	b.sql("CHECKPOINT")
	b.reader = append(b.reader, "DATABASE_URL="+b.server.URL("postgres"), "PGMEDIC_POSTGRES_DIRS="+b.server.BinDir())
	config := filepath.Join(b.tmp, "drill.yaml")
	text := `drill:
  assertions:
    - {name: rows behind, sql: SELECT count(*) = 1000 FROM behind}
    - {name: rows before, sql: SELECT count(*) = 1000 FROM before}
    - {name: ledger, sql: SELECT count(*) = 2999 FROM ledger}
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	live := func() map[string]string {
		all := sums(t, b.server.DataDir())
		maps.Copy(all, sums(t, space))
		maps.Copy(all, sums(t, earlier))
		// The server's own memory, and statistics that it forgets when it stops.
		maps.DeleteFunc(all, func(name, _ string) bool {
			return strings.Contains(name, "/pg_dynshmem/") || strings.Contains(name, "/pg_stat_tmp/")
		})
		return all
	}
	// drill is drillMoment, on the host of a source of which no file changes.
	drill := func(args ...string) (pgmedic.Receipt, string) {
		resume := b.quiet()
		was := live()
		r, stderr := b.drillMoment(0, args...)
		now := live()
		resume()
		for name, sum := range now {
			if was[name] != sum {
				t.Errorf("%s of the source has changed", name)
			}
			delete(was, name)
		}
		if len(was) > 0 {
			t.Errorf("files of the source are gone: %v", was)
		}
		return r, stderr
	}
	began := time.Now()
	r, stderr := drill("--config", config, "--at", moment)
	p := r.PITR
	b.wantRPO(p, began, time.Now())
	if !slices.Equal(p.Chain, []string{id}) {
		t.Errorf("the chain is %v, and the base backup %s", p.Chain, id)
	}
	if r.BackupID != id || r.Proof != pgmedic.ProofProven || p == nil || p.ReachedLSN != p.LastCommitLSN || p.LastCommitAt == nil || p.PagesChecked < 1000 || p.Commits < 3 || p.WALBytes < 3<<20 ||
		p.FetchSeconds <= 0 || p.ReplaySeconds <= 0 || p.OpenSeconds <= 0 || p.Seed != "" {
		t.Errorf("receipt %+v, %+v\n%s", r, p, stderr)
	}
	if before := b.ask("SELECT ('" + p.ReachedLSN + "'::pg_lsn < '" + position + "'::pg_lsn)::text"); before != "true" {
		t.Errorf("reached %s, and the moment is at %s", p.ReachedLSN, position)
	}
	for name, want := range map[string]pgmedic.Outcome{
		"restores": "ok", "moment": "ok", "pages": "ok", `indexes of "postgres"`: "ok", `indexes of "template0"`: "ok", `foreign keys of "postgres"`: "ok", `visibility of "postgres"`: "ok", `index-only scans of "postgres"`: "ok", `visibility of "template0"`: "ok", "constraints": "skipped", "values": "skipped",
		"live effects": "ok", "assertion rows behind": "ok", "assertion rows before": "ok", "assertion ledger": "ok",
	} {
		if got, detail := outcomeOf(r, name); got != want {
			t.Errorf("check %s: %q, want %s: %s", name, got, want, detail)
		}
	}
	if r.Counted.Constraints != 1 {
		t.Errorf("%d foreign keys were tested", r.Counted.Constraints)
	}
	if got := b.asReader("show", id); !strings.Contains(got.stdout, "recovered to "+p.Target+" in ") {
		t.Errorf("show: %s%s", got.stdout, got.stderr)
	}
	b.provenMoment(id, p)
	seed := pitr.SeedText(pointSeed())
	drawn, _ := drill("--at", "random", "--seed", seed, "--no-amcheck")
	if drawn.PITR.Drawn == "" || drawn.PITR.Seed != seed || drawn.Proof != pgmedic.ProofProven {
		t.Errorf("drawn %+v", drawn.PITR)
	}
	// It ended at the record of the restore point, which is the last one replayed.
	if p := drawn.PITR; p.RestorePoint != "before the deletion" || p.Target != `restore point "before the deletion"` || p.EndLSN != point {
		t.Errorf("drawn %+v, and the restore point is at %s", p, point)
	}
	if o, detail := outcomeOf(drawn, "moment"); o != "ok" || !strings.Contains(detail, `the restore point "before the deletion"`) {
		t.Errorf("moment: %s %s", o, detail)
	}
	if left := storedFiles(t, b.store, "/lease-"); len(left) > 0 {
		t.Errorf("leases are left: %v", left)
	}
	if o, _ := outcomeOf(drawn, "visibility of"); o != "skipped" {
		t.Errorf("visibility with --no-amcheck: %q", o)
	}
	if o, _ := outcomeOf(drawn, "indexes of"); o != "skipped" {
		t.Errorf("indexes with --no-amcheck: %q", o)
	}
	return moment
}

// quiet stops what the server writes by itself, such as a snapshot of what runs now and
// then, until it is told to go on.
func (b *walBench) quiet() (resume func()) {
	b.t.Helper()
	pids := b.ask("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type IN ('background writer', 'checkpointer', 'walwriter')")
	signal := func(s syscall.Signal) {
		for pid := range strings.FieldsSeq(pids) {
			if n, err := strconv.Atoi(pid); err != nil || syscall.Kill(n, s) != nil {
				b.t.Errorf("signal process %s of the server: %v", pid, err)
			}
		}
	}
	signal(syscall.SIGSTOP)
	resume = sync.OnceFunc(func() { signal(syscall.SIGCONT) })
	b.t.Cleanup(resume)
	return resume
}

// pointSeed is a seed with which a restore point is drawn, where there is one.
func pointSeed() uint64 {
	for seed := uint64(0); ; seed++ {
		points := []archive.RestorePoint{{Name: "p"}}
		now := time.Unix(1e9, 0)
		windows := []wal.Window{{From: wal.Point{Time: now}, Until: wal.Point{Time: now.Add(time.Hour)}}}
		if d, err := pitr.Draw(pitr.DrawOptions{Windows: windows, Points: points, Seed: seed}); err == nil && d.Target.Kind == wal.TargetName {
			return seed
		}
	}
}

// provenMoment looks at what is said of the only moment that a drill has proven: on a host with
// the key, on one without it, and of a receipt that somebody has forged.
func (b *walBench) provenMoment(id string, p *pgmedic.PITR) {
	t := b.t
	t.Helper()
	const until, unknown, nothing = "proven until 20", "nothing proven yet that this host can check", "nothing proven yet by a drill"
	for _, args := range [][]string{{"list"}, {"show", id}, {"wal", "status"}} {
		if got := b.asReader(args...); !strings.Contains(flat(got.stdout), until) || !strings.Contains(flat(got.stdout), "from base backup "+id) {
			t.Errorf("%v: %s%s", args, got.stdout, got.stderr)
		}
		if out := flat(b.ok(args...)); !strings.Contains(out, unknown) || strings.Contains(out, until) {
			t.Errorf("%v without the key: %s", args, out)
		}
	}
	var status struct {
		Clusters []struct {
			Proven []struct {
				Until struct {
					LSN  string
					Time time.Time
				}
				Backups   []string
				DrilledAt time.Time `json:"drilled_at"`
			}
			ClaimedDrills int `json:"claimed_drills"`
		}
	}
	read := func() {
		t.Helper()
		if got := b.asReader("wal", "status", "--json"); json.Unmarshal([]byte(got.stdout), &status) != nil || len(status.Clusters) != 1 {
			t.Fatalf("status: %s%s", got.stdout, got.stderr)
		}
	}
	read()
	if s := status.Clusters[0]; len(s.Proven) != 1 || s.Proven[0].Until.LSN != p.EndLSN || s.Proven[0].Until.Time.Before(*p.LastCommitAt) || !slices.Equal(s.Proven[0].Backups, []string{id}) || s.ClaimedDrills != 0 {
		t.Errorf("proven %+v of %+v", s, p)
	}
	// Its receipt with one byte of it changed is nobody's.
	receipts := storedFiles(t, b.store, "@cluster/"+id+"/receipts/")
	if len(receipts) != 1 {
		t.Fatalf("receipts %v", receipts)
	}
	was := readFile(t, receipts[0])
	put := func(data []byte) {
		t.Helper()
		if err := errors.Join(os.Remove(receipts[0]), os.WriteFile(receipts[0], data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	put(bytes.Replace(was, []byte(`"timeline": 1`), []byte(`"timeline":  1`), 1))
	if bytes.Equal(was, readFile(t, receipts[0])) {
		t.Fatal("the receipt is as it was")
	}
	for _, args := range [][]string{{"list"}, {"show", id}, {"wal", "status"}} {
		if got := b.asReader(args...); !strings.Contains(flat(got.stdout), nothing) || strings.Contains(flat(got.stdout), until) {
			t.Errorf("%v with a forged receipt: %s%s", args, got.stdout, got.stderr)
		}
	}
	put(was)
	if read(); len(status.Clusters[0].Proven) != 1 {
		t.Errorf("as it was: %+v", status)
	}
}

// flat is text without its line breaks.
func flat(text string) string { return strings.Join(strings.Fields(text), " ") }

// TestDrillMomentFaults seeds faults, each of which a drill finds: of deleted rows that are
// back in a table without an index, only an assertion does.
func TestDrillMomentFaults(t *testing.T) {
	testkit.OnlyAll(t, "a server and several drills for each version")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newWALBench(t, major)
			moment := drillMoments(t, b)
			drawn, _ := b.drillMoment(0, "--at", "random", "--within", "1d", "--no-amcheck")
			again, _ := b.drillMoment(0, "--at", "random", "--within", "1d", "--no-amcheck", "--seed", drawn.PITR.Seed)
			if drawn.PITR.Drawn == "" || drawn.PITR.Target != again.PITR.Target || drawn.PITR.ReachedLSN != again.PITR.ReachedLSN {
				t.Errorf("drawn %+v, and again %+v", drawn.PITR, again.PITR)
			}
			objects, err := filepath.Glob(filepath.Join(b.store, "clinic", "@wal", "*", "*", "seg", "*", "*"))
			if err != nil || len(objects) < 3 {
				t.Fatalf("segments %v, %v", objects, err)
			}
			slices.SortFunc(objects, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
			object := objects[len(objects)/2]
			was := readFile(t, object)
			info, err := os.Stat(object)
			if err == nil {
				err = os.Remove(object)
			}
			if err != nil {
				t.Fatal(err)
			}
			b.drillMoment(10, "--at", moment)
			changed := bytes.Clone(was)
			changed[len(changed)/2] ^= 1
			put := func(data []byte) {
				_ = os.Remove(object)
				if err := os.WriteFile(object, data, info.Mode().Perm()); err != nil {
					t.Fatal(err)
				}
			}
			put(changed)
			r, stderr := b.drillMoment(11, "--at", moment)
			if o, _ := outcomeOf(r, "restores"); o != "failed" || r.Proof != pgmedic.ProofFailed {
				t.Errorf("changed WAL: %+v\n%s", r, stderr)
			}
			put(was)
			b.interruptMoment(moment)
			b.killMoment(moment)
			// A row that refers to nothing, made with triggers off.
			b.sql("SET session_replication_role = replica")
			b.sql("INSERT INTO visits VALUES (4711, 'nowhere')")
			b.sql("RESET session_replication_role")
			// A page that was damaged on the server already, with a position by which a base
			// backup takes it for one that is being written.
			b.sql("CREATE TABLE damaged AS SELECT g AS n, repeat('d', 100) AS t FROM generate_series(1, 2000) AS g")
			b.sql("CHECKPOINT")
			page, err := os.OpenFile(filepath.Join(b.server.DataDir(), b.ask("SELECT pg_relation_filepath('damaged')")), os.O_WRONLY, 0)
			if err == nil {
				_, err = page.WriteAt(bytes.Repeat([]byte{0xab}, 8192), 3*8192)
				err = errors.Join(err, page.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
			b.staleMap()
			b.resurrect()
			stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
			b.physical(0)
			b.wantStored()
			stream.signal(syscall.SIGTERM)
			stream.wait(time.Minute)
			r, stderr = b.drillMoment(11, "--at", "latest", "--config", b.resurrectedConfig())
			wantResurrected(t, r)
			if o, detail := outcomeOf(r, `foreign keys of "postgres"`); o != "failed" || !strings.Contains(detail, "nothing is there for the keys of 1 row") {
				t.Errorf("a row that refers to nothing: %q %s", o, detail)
			}
			if o, detail := outcomeOf(r, `visibility of "postgres"`); o != "failed" || !strings.Contains(detail, "stale: the map calls 500 rows visible to all") {
				t.Errorf("a stale visibility map: %q %s", o, detail)
			}
			if o, detail := outcomeOf(r, `index-only scans of "postgres"`); o != "failed" || !strings.Contains(detail, "stale: 500 rows by a sequential scan, and 1,000 by an index-only scan") {
				t.Errorf("a stale visibility map: %q %s", o, detail)
			}
			if o, detail := outcomeOf(r, "pages"); o != "failed" || !strings.HasPrefix(detail, "1 of ") {
				t.Errorf("a damaged page: %+v\n%s", r, stderr)
			}
		})
	}
}

// staleMap sets the bits of a visibility map again that a deletion took off, on the disk of
// the source.
func (b *walBench) staleMap() {
	b.t.Helper()
	b.sql("CREATE TABLE stale AS SELECT g AS n FROM generate_series(1, 1000) AS g")
	b.sql("ALTER TABLE stale ADD PRIMARY KEY (n)")
	b.sql("VACUUM stale")
	b.sql("DELETE FROM stale WHERE n > 500")
	b.sql("CHECKPOINT")
	f, err := os.OpenFile(filepath.Join(b.server.DataDir(), b.ask("SELECT pg_relation_filepath('stale')")+"_vm"), os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	const checksum, header = 8, 24 // where they are in a page
	page := make([]byte, 8192)
	_, err = f.ReadAt(page, 0)
	page[header], page[header+1] = 0x55, 0x55 // all visible, none frozen
	if b.ask("SHOW data_checksums") == "on" {
		sum := pgdata.Checksum(page, 0)
		page[checksum], page[checksum+1] = byte(sum), byte(sum>>8)
	}
	if err == nil {
		_, err = f.WriteAt(page, 0)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		b.t.Fatal(err)
	}
}

// TestDrillMomentAfterFailover recovers over the switch to another timeline: what the old
// server wrote after it is left out.
func TestDrillMomentAfterFailover(t *testing.T) {
	testkit.OnlyAll(t, "two servers and two drills")
	b := newWALBench(t, 0)
	standby := scratchtest.NewStandby(t, b.server, scratch.StandbyOptions{})
	b.streamed(func() {}, func() {
		b.sql("INSERT INTO ledger SELECT g, repeat('y', 1000) FROM generate_series(1, 2000) AS g")
		standby.CatchUp(t)
		standby.Promote(t)
		b.sql("INSERT INTO ledger VALUES (-1, 'lost')")
	})
	before := b.ask("SELECT clock_timestamp()::timestamptz(6)::text")
	b.env = append(b.env, "DATABASE_URL="+standby.URL("postgres"))
	b.conn = testkit.Connect(t, standby.DSN("postgres"))
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.sql("SET synchronous_commit = on") // a standby of a test has it off
	b.sql("INSERT INTO ledger SELECT g, repeat('z', 1000) FROM generate_series(3001, 5000) AS g")
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
	}
	b.restoring() // which gives the store to the server's user
	config := filepath.Join(b.tmp, "drill.yaml")
	text := "drill:\n  assertions:\n    - {name: ledger, sql: SELECT count(*) FROM ledger, expect: %s}\n"
	b.reader = append(b.reader, "DATABASE_URL="+standby.URL("postgres"))
	for at, rows := range map[string]string{"latest": "4000", before: "2000"} {
		if err := os.WriteFile(config, []byte(strings.Replace(text, "%s", rows, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, _ := b.drillMoment(0, "--config", config, "--at", at); r.PITR.Timeline != 2 || r.Proof != pgmedic.ProofProven {
			t.Errorf("%s: %+v", at, r.PITR)
		}
	}
	b.drillFork(standby.DataDir(), config, text, "2000")
}

// momentPoints are the named places of a drill of a moment.
func momentPoints() []string { return []string{"moment-started", "moment-compared"} }

// killMoment kills a drill at each of its named places. It proves nothing then, and the next
// one clears away what it left.
func (b *walBench) killMoment(moment string) {
	b.t.Helper()
	env, scratches := b.env, filepath.Join(b.tmp, "scratches")
	for _, point := range slices.Concat(replayPoints(), momentPoints()) {
		b.program, b.env = mortal(b.t), append(slices.Clone(b.reader), "PGMEDIC_FAILPOINT=kill:"+point)
		drill := b.start("drill", "--scratch-dir", scratches, "--no-amcheck", "--at", moment)
		b.program, b.env = "", env
		if r := drill.wait(time.Minute); strings.Contains(r.stdout, "proven") {
			b.t.Errorf("%s: it was not killed: %s%s", point, r.stdout, r.stderr)
		}
		b.noServers(scratches)
		// Its lease is left, and ends by itself.
		left := storedFiles(b.t, b.store, "/lease-")
		if len(left) != 1 || !strings.Contains(string(readFile(b.t, left[0])), `"purpose": "drill"`) {
			b.t.Fatalf("%s: leases %v", point, left)
		}
		if err := os.Remove(left[0]); err != nil {
			b.t.Fatal(err)
		}
		b.drillMoment(0, "--no-amcheck", "--at", moment) // which leaves nothing
	}
}

// interruptMoment interrupts a drill that has begun to fill its scratch.
func (b *walBench) interruptMoment(moment string) {
	b.t.Helper()
	env, scratches := b.env, filepath.Join(b.tmp, "scratches")
	b.env = b.reader
	drill := b.start("drill", "--scratch-dir", scratches, "--at", moment)
	b.env = env
	testkit.Eventually(b.t, time.Minute, "the scratch is being filled", func() bool {
		found, err := filepath.Glob(filepath.Join(scratches, "*", "wal", "*"))
		return err == nil && len(found) > 0
	})
	drill.signal(syscall.SIGINT)
	if r := drill.wait(time.Minute); r.code != 130 {
		b.t.Errorf("interrupted: exit code %d, %s", r.code, r.stderr)
	}
	if left, err := os.ReadDir(scratches); err != nil || len(left) > 0 {
		b.t.Errorf("interrupted, it left %v, %v", left, err)
	}
}

// TestDrillMomentUsage refuses what can't be obeyed.
func TestDrillMomentUsage(t *testing.T) {
	b := newBench(t)
	for want, args := range map[string][]string{
		"--within is for drills of a random":  {"--within", "7d"},
		"--seed is for drills of a random":    {"--seed", "00000000000000aa"},
		"--sample is for drills of one":       {"--at", "latest", "--sample", "3"},
		"--on-server is for drills of one":    {"--at", "random", "--on-server"},
		"--at chooses the base backup":        {"--at", "random", "latest"},
		"--within and --seed are for drills":  {"--at", "latest", "--within", "7d"},
		`--within \"soon\" is not a length`:   {"--at", "random", "--within", "soon"},
		`\"aa\" is not a seed`:                {"--at", "random", "--seed", "aa"},
		`--at \"yesterday\" is not a moment`:  {"--at", "yesterday"},
		"--at \"2026-11-29 10:41:59\" is not": {"--at", "2026-11-29 10:41:59"},
	} {
		if r := b.run(append([]string{"drill"}, args...)...); r.code != 2 || !strings.Contains(r.stderr, strings.ReplaceAll(want, `\"`, `"`)) {
			t.Errorf("%q: exit code %d, %s", args, r.code, r.stderr)
		}
	}
}
