package cluster_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// stop ends a server.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, "the server has stopped", func() bool { return !testkit.Alive(pid) })
}

// TestRestore restores one backup to a position and to a time: the rows are those that
// the plan promised, of a table in a tablespace that went elsewhere, too.
func TestRestore(t *testing.T) {
	b := newBench(t, 0)
	old := b.folder("old")
	b.run("CREATE TABLE public.ledger (n int, at timestamptz DEFAULT clock_timestamp())", "CREATE TABLESPACE apart LOCATION '"+old+"'",
		"CREATE TABLE public.aside TABLESPACE apart AS SELECT generate_series(1, 1000) AS n", "INSERT INTO public.ledger SELECT generate_series(1, 10)", "CHECKPOINT")
	backup := b.backup()
	b.run("INSERT INTO public.ledger VALUES (11)", "INSERT INTO public.aside VALUES (1001)")
	moment, err := time.Parse("2006-01-02 15:04:05.999999Z07", b.query("SELECT clock_timestamp()::timestamptz(6)::text"))
	if err != nil {
		t.Fatal(err)
	}
	b.run("INSERT INTO public.ledger VALUES (12)")
	position := b.lsn() // where the next record begins
	b.run("INSERT INTO public.ledger VALUES (13)", "UPDATE public.ledger SET n = n", "DELETE FROM public.aside", "SELECT pg_switch_wal()", "INSERT INTO public.ledger VALUES (14)")
	b.storeWAL()
	b.wantPrefetched(b.plan(backup, wal.Target{Kind: wal.TargetEnd}, old+"="+b.folder("p")))

	for what, c := range testkit.Some(t, 1, map[string]struct {
		target wal.Target
		rows   int64
	}{
		"a time":     {wal.Target{Kind: wal.TargetTime, Time: moment}, 11},
		"a position": {wal.Target{Kind: wal.TargetLSN, LSN: position - 8}, 12},
	}) {
		dir, moved := filepath.Join(b.folder(strings.ReplaceAll(what, " ", "-")), "data"), b.folder(strings.ReplaceAll(what, " ", "-")+"-apart")
		p := b.plan(backup, c.target, old+"="+moved)
		done, err := cluster.Restore(t.Context(), b.options(backup, p, dir))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !done.Configured || done.State != cluster.Absent {
			t.Errorf("%s: %+v", what, done)
		}
		conn := b.recovered(dir, p)
		if got := postgrestest.Query[int64](t, conn, "SELECT count(*) FROM public.ledger"); got != c.rows {
			t.Errorf("%s: %d rows, want %d", what, got, c.rows)
		}
		if got := postgrestest.Query[int64](t, conn, "SELECT count(*) FROM public.aside"); got != 1001 {
			t.Errorf("%s: %d rows in the tablespace", what, got)
		}
		if at, err := os.Readlink(filepath.Join(dir, "pg_tblspc", filepath.Base(dirsOf(t, filepath.Join(dir, "pg_tblspc"))[0]))); err != nil || at != moved {
			t.Errorf("%s: the tablespace is at %s, %v", what, at, err)
		}
		postgrestest.Run(t, conn, "DELETE FROM public.aside") // not the live one's
	}
	if got := b.query("SELECT count(*)::text FROM public.ledger"); got != "14" {
		t.Errorf("the live server has %s rows", got)
	}
}

func dirsOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%s: %d entries, %v", dir, len(entries), err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// wantPrefetched fetches ahead, and takes what is there: the segments of the plan as they
// are fetched one by one, and nothing that was changed meanwhile.
func (b *bench) wantPrefetched(p *recovery.Plan) {
	b.t.Helper()
	t, dir := b.t, b.folder("prefetched")
	f := recovery.NewFetcher(p, b.fetcher(), nil)
	first := wal.MinSegmentSize.Name(wal.MinSegmentSize.Segment(1, p.WAL.Base.Start-wal.LSN(wal.MinSegmentSize)))
	names := p.Next(first, 8)
	if len(names) < 3 {
		t.Fatalf("the plan has the segments %v", names)
	}
	if err := os.MkdirAll(filepath.Join(dir, recovery.PrefetchFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, recovery.PrefetchFolder, "0000000100000000000000FF-00")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := recovery.Prefetch(t.Context(), f, dir, first); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what no one asks for any more: %v", err)
	}
	if _, ahead, err := p.Take(dir, first, "x"); err != nil || ahead != len(names) {
		t.Errorf("%d are there of %d, %v", ahead, len(names), err)
	}
	other := *p
	other.MadeAt = p.MadeAt.Add(time.Second)
	last := names[len(names)-1]
	if taken, _, err := other.Take(dir, last, "given"); taken || err != nil {
		t.Errorf("a segment of another plan is taken: %t, %v", taken, err)
	}
	names = names[:len(names)-1]
	for i, name := range names {
		var want bytes.Buffer
		if err := f.Fetch(t.Context(), name, &want); err != nil {
			t.Fatal(err)
		}
		found, err := filepath.Glob(filepath.Join(dir, recovery.PrefetchFolder, name+"-*"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %v, %v", name, found, err)
		}
		changed := i == 1
		if changed {
			if err := overwrite(found[0], 1000, "X"); err != nil {
				t.Fatal(err)
			}
		}
		taken, _, err := p.Take(dir, name, "given")
		if err != nil || taken == changed {
			t.Errorf("%s, changed: %t: taken %t, %v", name, changed, taken, err)
		}
		if got, _ := os.ReadFile(filepath.Join(dir, "given")); taken && !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s is not what it was", name)
		}
		if taken, _, err := p.Take(dir, name, "given"); taken || err != nil {
			t.Errorf("%s is taken twice, %v", name, err)
		}
	}
}

// TestStartWithoutConfiguration: a cluster whose server had its configuration elsewhere is
// recovered, compared with the plan, and not started.
func TestStartWithoutConfiguration(t *testing.T) {
	testkit.OnlyAll(t, "a server and a recovery")
	b := newBench(t, 0)
	b.run("CREATE TABLE public.ledger (n int)")
	backup := b.backup()
	b.run("INSERT INTO public.ledger VALUES (1)")
	b.storeWAL()
	p, dir := b.plan(backup, wal.Target{Kind: wal.TargetEnd}), filepath.Join(b.folder("without"), "data")
	if _, err := cluster.Restore(t.Context(), b.options(backup, p, dir)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgresql.conf", "pg_hba.conf", "pg_ident.conf"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := cluster.Start(t.Context(), cluster.StartOptions{Dir: dir, Plan: p, BinDir: b.server.BinDir(), Owner: b.user(), Environ: os.Environ()})
	if pgmedic.KindOf(err) != pgmedic.KindDegraded || r == nil || r.Running || r.Redone < p.WAL.Last.LSN {
		t.Errorf("%+v, %v", r, err)
	}
	// A plan that says something else: the recovery of another day.
	p.WAL.Last.LSN += 1 << 20
	dir = filepath.Join(b.folder("otherwise"), "data")
	q := b.plan(backup, wal.Target{Kind: wal.TargetEnd})
	if _, err := cluster.Restore(t.Context(), b.options(backup, q, dir)); err != nil {
		t.Fatal(err)
	}
	r, err = cluster.Start(t.Context(), cluster.StartOptions{Dir: dir, Plan: p, BinDir: b.server.BinDir(), Owner: b.user(), Environ: os.Environ()})
	if pgmedic.KindOf(err) != pgmedic.KindIntegrity || r == nil || r.Running {
		t.Errorf("another plan: %+v, %v", r, err)
	}
}
