package test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// damagedChain is a chain of three backups, with a gap in the WAL before the second, and a
// failover after the last.
type damagedChain struct {
	ids []string
	// position is on the second timeline, and the first one has WAL beyond it, too.
	position, want string
}

// TestRestoreChainDamaged is TestRestoreClusterDamaged of a chain of incremental backups, of the
// history of a timeline and of a recorded gap. Where the history is damaged or gone, the old
// timeline is not taken for the new one.
//
// In make test-all one object of a kind is damaged, and in make chaos all.
func TestRestoreChainDamaged(t *testing.T) {
	testkit.OnlyAll(t, "it takes PostgreSQL 17, and a restore for each object and kind of damage")
	b := newWALBench(t, replication.FirstIncremental, map[string]string{"summarize_wal": "on"})
	chain := b.damagedChain()
	c := b.restoring()
	n, codes := 0, map[string][]int{}
	for kind, files := range c.chainObjects(chain.ids) {
		if len(files) == 0 {
			t.Errorf("nothing is stored of %s", kind)
		}
		for _, file := range testkit.Pick(kind, testkit.Amount(0, 1, 1000), files) {
			for what, damage := range chainDamages(kind) {
				mend := c.replace(file, damage(storedObject{text: readFile(t, file)}))
				n++
				tried := c.restoreDamaged(damagedObject{kind, file, what}, "d"+strconv.Itoa(n), chain.position, chain.want)
				codes[kind] = append(codes[kind], tried.code)
				mend()
				t.Logf("%s of %s %s: exit code %d", what, kind, filepath.Base(file), tried.code)
			}
		}
	}
	for _, kind := range []string{"pack of the parent", "files of the parent", "pack of the child", "files of the child", "history"} {
		if !slices.ContainsFunc(codes[kind], func(code int) bool { return code != 0 }) {
			t.Errorf("%s: exit codes %v: the damage is not where it is read", kind, codes[kind])
		}
	}
	if tried := c.restoreDamaged(damagedObject{"mended store", c.store, ""}, "sound", chain.position, chain.want); tried.code != 0 {
		t.Errorf("with all mended: exit code %d", tried.code)
	}
}

// chainDamages are what befalls objects of a kind. A history is not sealed, since recover.sh and
// PostgreSQL read it: where it says that a timeline ended must be held against the WAL.
func chainDamages(kind string) map[string]damageTo {
	all := map[string]damageTo{}
	for _, what := range []string{"flip", "cut", "remove"} {
		all[what] = clusterDamages()[what]
	}
	if kind != "history" {
		return all
	}
	moved := func(by int64) damageTo {
		return func(o storedObject) []byte {
			return historyPosition.ReplaceAllFunc(o.text, func(position []byte) []byte {
				at, err := wal.ParseLSN(string(position))
				if err != nil {
					return position
				}
				return []byte((at + wal.LSN(by)).String())
			})
		}
	}
	all["cut in the position"] = func(o storedObject) []byte { return o.text[:historyPosition.FindIndex(o.text)[1]-2] }
	all["a position before"], all["a position behind"] = moved(-1<<20), moved(1<<20)
	all["a little before"], all["a little behind"] = moved(-1<<10), moved(1<<10)
	return all
}

var historyPosition = regexp.MustCompile(`[0-9A-F]+/[0-9A-F]+`)

// damagedChain makes the history.
func (b *walBench) damagedChain() (chain damagedChain) {
	t := b.t
	t.Helper()
	standby := scratchtest.NewStandby(t, b.server, scratch.StandbyOptions{})
	take := func(kind string) {
		t.Helper()
		row, stderr := b.physical(0, "--incremental")
		if got, _ := b.kindOf(row.ID); got != kind {
			t.Fatalf("backup %d is %s: %s", len(chain.ids), got, stderr)
		}
		chain.ids = append(chain.ids, row.ID)
	}
	b.sql("INSERT INTO ledger SELECT g, repeat('a', 1000) FROM generate_series(1, 2000) AS g")
	take("full")
	b.sql("UPDATE ledger SET note = repeat('b', 1000) WHERE n % 10 = 0") // which nothing streams
	take("incremental")
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.wantStreaming()
	b.sql("UPDATE ledger SET note = repeat('c', 1000) WHERE n % 15 = 0")
	b.sql("DELETE FROM ledger WHERE n > 1800")
	take("incremental")
	b.sql("INSERT INTO ledger SELECT g, repeat('d', 1000) FROM generate_series(3001, 3200) AS g")
	standby.CatchUp(t)
	standby.Promote(t)
	b.sql("INSERT INTO ledger SELECT g, repeat('l', 1000) FROM generate_series(5001, 8000) AS g") // which are lost
	b.wantStored()
	end := b.ask("SELECT pg_current_wal_lsn()::text")
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
	}
	b.env = append(slices.DeleteFunc(b.env, func(kv string) bool { return strings.HasPrefix(kv, "DATABASE_URL=") }), "DATABASE_URL="+standby.URL("postgres"))
	b.conn = testkit.Connect(t, standby.DSN("postgres"))
	b.sql("SET synchronous_commit = on") // a standby of a test has it off
	stream = b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.wantStreaming()
	b.sql("INSERT INTO ledger SELECT g, repeat('e', 1000) FROM generate_series(4001, 4200) AS g")
	chain.want, chain.position = b.ask(ledgerSum), b.ask("SELECT pg_current_wal_lsn()::text")
	b.sql("INSERT INTO ledger VALUES (-1, 'too late')")
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
	}
	if b.ask("SELECT ('"+end+"'::pg_lsn > '"+chain.position+"'::pg_lsn)::text") != "true" {
		t.Fatalf("the old timeline ends at %s, and the target is %s", end, chain.position)
	}
	return chain
}

// chainObjects are the objects of each kind of the backups of a chain, and the histories and
// gaps of its WAL.
func (c *clusterBench) chainObjects(ids []string) map[string][]string {
	c.t.Helper()
	all := map[string][]string{}
	objects := c.objects(1000)
	for kind, files := range objects {
		for _, file := range files {
			for i, id := range ids {
				if strings.Contains(file, string(filepath.Separator)+id+string(filepath.Separator)) && strings.Contains(file, "@cluster") {
					of := kind + " of the parent"
					if i == len(ids)-1 {
						of = kind + " of the child"
					}
					all[of] = append(all[of], file)
				}
			}
		}
	}
	all["history"], all["gap"] = objects["history"], objects["gap"]
	return all
}
