package physical_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// newSQLBench is a bench whose backups read the files by SQL, and are incremental where they can
// be.
func newSQLBench(t *testing.T, opts scratch.Options) *bench {
	t.Helper()
	b := newBench(t, opts)
	b.o.BySQL = true
	b.o.Incremental = &physical.Incremental{MaxChain: 7, Manifest: func(ctx context.Context, m *pgmedic.Backup) (io.ReadCloser, error) {
		e, err := b.o.Catalog.Get(ctx, m.ID, catalog.Filter{Server: "clinic", Cluster: true})
		if err != nil {
			return nil, err
		}
		return b.source(e.Backup).Object(ctx, pgmedic.RoleFiles)
	}}
	return b
}

// settle has all that was changed written, and waits until that is old enough for a backup to be
// sure of it.
func (b *bench) settle() {
	b.t.Helper()
	b.run("CHECKPOINT")
	conn := postgrestest.Connect(b.t, postgrestest.Parse(b.t, b.server.DSN("postgres")))
	at := postgrestest.Query[time.Time](b.t, conn, "SELECT clock_timestamp()")
	testkit.Eventually(b.t, time.Minute, "what was written is old enough", func() bool {
		return postgrestest.Query[time.Time](b.t, conn, "SELECT clock_timestamp()").Sub(at) > 4*time.Second
	})
}

// grant grants what the error of a backup asks for.
func (b *bench) grant() {
	b.t.Helper()
	_, err := physical.Take(b.t.Context(), b.o)
	_, statement, ok := strings.Cut(pgmedic.HintOf(err), "let a superuser run in database \"postgres\": ")
	if pgmedic.KindOf(err) != pgmedic.KindUsage || !ok || !strings.Contains(err.Error(), "pg_read_binary_file") {
		b.t.Fatalf("without the functions: %v (%s)", err, pgmedic.HintOf(err))
	}
	b.run(statement)
}

// restored starts a server on what a backup and those that it needs hold, and returns a
// connection to it.
func (b *bench) restored(m *pgmedic.Backup) *pgx.Conn {
	b.t.Helper()
	dir := b.merged(b.members(m))
	// Tablespaces go elsewhere.
	var text strings.Builder
	for _, space := range m.Physical.Tablespaces {
		to := filepath.Join(filepath.Dir(dir), fmt.Sprintf("%s-%d", filepath.Base(dir), space.OID))
		from := filepath.Join(dir, "pg_tblspc", strconv.FormatUint(uint64(space.OID), 10))
		err := os.MkdirAll(from, 0o700) // of one that was dropped meanwhile there is nothing
		if err == nil {
			err = os.Rename(from, to)
		}
		if err != nil {
			b.t.Fatal(err)
		}
		b.owned(to)
		fmt.Fprintf(&text, "%d %s\n", space.OID, to)
	}
	if text.Len() > 0 {
		if err := os.WriteFile(filepath.Join(dir, "tablespace_map"), []byte(text.String()), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	b.fetchWAL(m, dir)
	return b.start(dir)
}

const contents = `SELECT coalesce(string_agg(x, ' '), '') FROM (
SELECT 'a' || count(*) || ' ' || coalesce(sum(hashtext(i || pad)), 0) AS x FROM public.a UNION ALL
SELECT 'b' || count(*) || ' ' || coalesce(sum(hashtext(i || pad)), 0) FROM public.b UNION ALL
SELECT 's' || count(*) || ' ' || coalesce(sum(hashtext(g::text)), 0) FROM public.there) AS all_of_it`

// TestSQLChain restores a full backup and two incremental ones whose files were read by SQL.
func TestSQLChain(t *testing.T) {
	for i, major := range scratchtest.MajorsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			opts := scratch.Options{Major: major, Settings: map[string]string{"full_page_writes": "on"}}
			if i%2 == 0 {
				opts.InitArgs = []string{"--data-checksums"}
			}
			chainBySQL(t, newSQLBench(t, opts))
		})
	}
}

func chainBySQL(t *testing.T, b *bench) {
	b.grant()
	b.tablespace("elsewhere")
	b.run("CREATE TABLE public.a AS SELECT i, repeat('a', 300) AS pad FROM generate_series(1, 30000) AS i", "CREATE TABLE public.b AS SELECT i, repeat('b', 300) AS pad FROM generate_series(1, 3000) AS i",
		"CREATE TABLE public.dropped AS SELECT 1 AS x", "CREATE TABLE public.cut AS SELECT g FROM generate_series(1, 5000) AS g", "CREATE UNLOGGED TABLE public.u AS SELECT 1 AS x", "CREATE DATABASE other")
	b.settle()
	full := b.take()
	b.run("UPDATE public.b SET pad = 'changed' WHERE i % 7 = 0", "INSERT INTO public.there SELECT 1", "TRUNCATE public.cut", "INSERT INTO public.cut VALUES (7)", "VACUUM public.b")
	b.space("newer")
	b.run("CREATE TABLE public.newest TABLESPACE newer AS SELECT 5 AS x")
	first := b.take()
	b.run("DROP TABLE public.dropped", "VACUUM FULL public.b", "INSERT INTO public.b SELECT i, 'new' FROM generate_series(5001, 9000) AS i", "CREATE DATABASE third", "DROP DATABASE other", "CREATE TEMPORARY TABLE tmp AS SELECT 1 AS x")
	second := b.take()
	source := postgrestest.Connect(t, postgrestest.Parse(t, b.server.DSN("postgres")))
	want := ask(t, source, contents)
	for i, m := range []*pgmedic.Backup{full, first, second} {
		p := m.Physical
		if p.Depth != i || (p.Kind == pgmedic.PhysicalFull) != (i == 0) || !m.Clean() || p.PagesChecked == 0 || m.Format != pgmedic.SQLFormat || p.SQL == nil || !b.walStored(m) || len(p.Tablespaces) != min(i+1, 2) {
			t.Fatalf("backup %d is %s of depth %d, clean %v, %+v\n%s", i, p.Kind, p.Depth, m.Clean(), p, b.log.String())
		}
	}
	if first.Physical.PlainBytes > full.Physical.PlainBytes/3 || second.Physical.PlainBytes > full.Physical.PlainBytes*2/3 {
		t.Errorf("the first has %d bytes, the second %d, the full one %d", first.Physical.PlainBytes, second.Physical.PlainBytes, full.Physical.PlainBytes)
	}
	path := ask(t, source, "SELECT pg_relation_filepath('public.a')")
	if kind := b.kindsOf(second)[path]; kind != physical.KindKept {
		t.Errorf("%s, which nothing has written to, is %q in the second", path, kind)
	}
	restored := b.restored(second)
	if got := ask(t, restored, contents); got != want {
		t.Errorf("the restored cluster has %s, and the source %s", got, want)
	}
	if got := ask(t, restored, "SELECT string_agg(datname, ' ' ORDER BY datname) || ' ' || (SELECT count(*) FROM public.u) FROM pg_database"); got != "postgres template0 template1 third 0" {
		t.Errorf("databases, and rows of an unlogged table: %s", got)
	}
}

// kindsOf are the kinds of the files of a backup's own list.
func (b *bench) kindsOf(m *pgmedic.Backup) map[string]physical.Kind {
	b.t.Helper()
	list, closer, err := b.source(m).Files(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer closer.Close()
	kinds := map[string]physical.Kind{}
	for {
		e, err := list.Next()
		if errors.Is(err, io.EOF) {
			return kinds
		}
		if err != nil {
			b.t.Fatal(err)
		}
		if e.File != nil {
			kinds[e.File.Path] = e.File.Kind
		}
	}
}

// TestSQLParent: a file that has the size and the time of the parent's but was put there since is
// read, and a server whose clock was set back, or that was restarted, gives a full backup. Pages
// that are wrong are named, and no backup is incremental to one that has such.
func TestSQLParent(t *testing.T) {
	testkit.OnlyAll(t, "five backups, each of which waits for some seconds")
	b := newSQLBench(t, scratch.Options{InitArgs: []string{"--data-checksums"}})
	b.grant()
	b.run("CREATE TABLE public.a AS SELECT i, repeat('a', 300) AS pad FROM generate_series(1, 3000) AS i", "CREATE TABLE public.b AS SELECT i, repeat('b', 300) AS pad FROM generate_series(1, 3000) AS i", "CHECKPOINT")
	source := postgrestest.Connect(t, postgrestest.Parse(t, b.server.DSN("postgres")))
	one, two := ask(t, source, "SELECT pg_relation_filepath('public.a')"), ask(t, source, "SELECT pg_relation_filepath('public.b')")
	b.settle()
	full := b.take()
	file := filepath.Join(b.server.DataDir(), one)
	info, err := os.Stat(file)
	if err == nil {
		err = os.Chtimes(file, info.ModTime(), info.ModTime())
	}
	if err != nil {
		t.Fatal(err)
	}
	first := b.take()
	if kinds := b.kindsOf(first); first.Physical.Parent != full.ID || kinds[one] != physical.KindRelation || kinds[two] != physical.KindKept {
		t.Errorf("of %q: the file whose times were set is %q, the other %q\n%s", first.Physical.Parent, kinds[one], kinds[two], b.log.String())
	}
	b.rewrite(first, func(s *pgmedic.SQLRead) {
		later := s.ClockAt.AddDate(0, 0, 1)
		s.ClockAt = &later
	})
	if m := b.take(); m.Physical.Kind != pgmedic.PhysicalFull || !strings.Contains(b.log.String(), "clock was set back") {
		t.Errorf("the clock was set back: %s\n%s", m.Physical.Kind, b.log.String())
	}
	for _, m := range b.all() {
		b.rewrite(m, func(s *pgmedic.SQLRead) { s.ServerStartedAt = s.ServerStartedAt.Add(-time.Second) })
	}
	if m := b.take(); m.Physical.Kind != pgmedic.PhysicalFull || !strings.Contains(b.log.String(), "the server was restarted") {
		t.Errorf("the server was restarted: %s\n%s", m.Physical.Kind, b.log.String())
	}
	// A page that is damaged in a file that would be kept otherwise.
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("spoilt"), 3*8192+4000)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	m := b.take()
	if p := m.Physical; m.Clean() || p.BadPages != 1 || p.PageErrors[0] != (pgmedic.PageError{Path: one, Block: 3, Why: pgmedic.PageFaultChecksum}) {
		t.Errorf("%d bad pages: %+v", p.BadPages, p.PageErrors)
	}
}

// rewrite changes the manifest of a backup where it is stored.
func (b *bench) rewrite(m *pgmedic.Backup, change func(s *pgmedic.SQLRead)) {
	b.t.Helper()
	change(m.Physical.SQL)
	text, err := json.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	for name, text := range map[string][]byte{"manifest.json": text, "manifest.json.sha256": fmt.Appendf(nil, "%x  manifest.json\n", sum)} {
		key := catalog.Key(m, name)
		if err := b.store.Delete(b.t.Context(), key); err != nil {
			b.t.Fatal(err)
		}
		if _, err := b.store.Put(b.t.Context(), key, bytes.NewReader(text)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestSQLRefuses: what can't be heeded is refused before anything is stored, and a server that ends
// the session ends the backup.
func TestSQLRefuses(t *testing.T) {
	testkit.OnlyAll(t, "a standby")
	b := newSQLBench(t, scratch.Options{})
	b.grant()
	b.o.MaxRate = 1 << 20
	if _, err := physical.Take(t.Context(), b.o); pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), "--max-rate") {
		t.Errorf("a rate: %v", err)
	}
	b.o.MaxRate = 0
	source := postgrestest.Connect(t, postgrestest.Parse(t, b.server.DSN("postgres")))
	b.o.Progress = func(e pgmedic.Event) {
		if e.Step == "files" {
			_, _ = source.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'replicator' AND backend_type = 'client backend'")
		}
	}
	if m, err := physical.Take(t.Context(), b.o); err == nil {
		t.Errorf("its sessions were ended, and it is %+v", m.Physical)
	}
	b.o.Progress = nil
	if all := b.all(); len(all) > 0 {
		t.Errorf("%d backups are listed", len(all))
	}
	standby := scratchtest.NewStandby(t, b.server, scratch.StandbyOptions{})
	b.o.Target = postgrestest.Parse(t, standby.DSN("postgres")).With("user", "replicator")
	if _, err := physical.Take(t.Context(), b.o); pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), "a standby") {
		t.Errorf("a standby: %v", err)
	}
}

// TestSQLUnderLoad: chains of a server that is written to all the time, and whose tables are made,
// dropped, cut and written anew meanwhile, restore to one moment of it, and pages that are being
// written are no damage.
func TestSQLUnderLoad(t *testing.T) {
	testkit.OnlyAll(t, "chains of servers that are written to all the time")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newSQLBench(t, scratch.Options{Major: major, InitArgs: []string{"--data-checksums"}, Settings: map[string]string{"full_page_writes": "on", "max_wal_size": "64MB", "shared_buffers": "2MB"}})
			b.grant()
			underLoadBySQL(t, b)
		})
	}
}

func underLoadBySQL(t *testing.T, b *bench) {
	b.run("CREATE TABLE public.accounts AS SELECT i, 100 AS n, repeat('x', 200) AS pad FROM generate_series(1, 50000) AS i", "CREATE UNIQUE INDEX ON public.accounts (i)",
		"CREATE TABLE public.still AS SELECT i, repeat('s', 200) AS pad FROM generate_series(1, 50000) AS i",
		"CREATE TABLE public.churn AS SELECT g FROM generate_series(1, 1000) AS g", "CREATE TABLE public.cut AS SELECT g FROM generate_series(1, 500) AS g", "CREATE TABLE public.full_of AS SELECT i, 'x' AS pad FROM generate_series(1, 2000) AS i")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	loads := [][]string{
		{"UPDATE public.accounts SET n = n + CASE WHEN i %% 2 = 0 THEN 1 ELSE -1 END, pad = pad WHERE i IN (%[1]d * 2 + 1, %[1]d * 2 + 2)"},
		{"CHECKPOINT", "VACUUM FULL public.full_of", "UPDATE public.full_of SET pad = pad"},
		{"BEGIN; DROP TABLE public.churn; CREATE TABLE public.churn AS SELECT g FROM generate_series(1, 1000) AS g; COMMIT", "BEGIN; TRUNCATE public.cut; INSERT INTO public.cut SELECT g FROM generate_series(1, 500) AS g; COMMIT", "CREATE DATABASE passing", "DROP DATABASE passing", "VACUUM public.cut"},
	}
	for _, statements := range loads {
		conn := postgrestest.Connect(t, postgrestest.Parse(t, b.server.DSN("postgres")))
		go func() {
			defer func() { ended <- struct{}{} }()
			for n := 0; ctx.Err() == nil; n++ {
				sql := statements[n%len(statements)]
				if strings.Contains(sql, "%[1]d") {
					sql = fmt.Sprintf(sql, n*37%25000)
				}
				if _, err := conn.PgConn().Exec(context.WithoutCancel(ctx), sql).ReadAll(); err != nil {
					t.Errorf("%s: %v", sql, err)
					return
				}
			}
		}()
	}
	var last *pgmedic.Backup
	for i := range testkit.Amount(2, 3, 30) {
		if last = b.take(); !last.Clean() || i > 0 && last.Physical.Kind != pgmedic.PhysicalIncremental && i < 7 {
			t.Errorf("backup %d is %s, bad pages: %+v\n%s", i, last.Physical.Kind, last.Physical.PageErrors, b.log.String())
		}
	}
	cancel()
	for range loads {
		<-ended
	}
	restored := b.restored(last)
	for sql, want := range map[string]string{
		"SELECT sum(n)::text || ' ' || count(*) FROM public.accounts": "5000000 50000",
		"SELECT count(*)::text FROM public.churn":                     "1000",
		"SELECT count(*)::text FROM public.cut":                       "500",
		"SELECT count(*)::text FROM public.full_of":                   "2000",
	} {
		if got := ask(t, restored, sql); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
	if got := ask(t, restored, "SELECT (count(*) = 50000 AND bool_and(pad = repeat('s', 200)))::text FROM public.still"); got != "true" {
		t.Error("the table that was not written to is another one")
	}
}
