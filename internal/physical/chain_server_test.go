package physical_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/chain"
	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/physical/merge"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// newChainBench is a bench whose server summarizes its WAL, with backups that are incremental
// where they can be.
func newChainBench(t *testing.T, opts scratch.Options) *bench {
	t.Helper()
	if opts.Settings == nil {
		opts.Settings = map[string]string{}
	}
	opts.Settings["summarize_wal"] = "on"
	// VACUUM takes a row for visible to all only once its commit is flushed.
	opts.Settings["synchronous_commit"] = "on"
	b := newBench(t, opts)
	b.o.Incremental = &physical.Incremental{MaxChain: 7, Manifest: func(ctx context.Context, m *pgmedic.Backup) (io.ReadCloser, error) {
		e, err := b.o.Catalog.Get(ctx, m.ID, catalog.Filter{Server: "clinic", Cluster: true})
		if err != nil {
			return nil, err
		}
		return b.source(e.Backup).Object(ctx, pgmedic.RoleServerManifest)
	}}
	return b
}

// all are the backups in the store.
func (b *bench) all() (all []*pgmedic.Backup) {
	b.t.Helper()
	listing, err := b.o.Catalog.List(b.t.Context(), catalog.Filter{Server: "clinic", Cluster: true})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range listing.Entries {
		m, err := b.o.Catalog.Whole(b.t.Context(), e)
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// members opens the chain of a backup.
func (b *bench) members(m *pgmedic.Backup) (members []physical.Source) {
	b.t.Helper()
	needed, err := chain.Of(m, b.all())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, of := range needed {
		members = append(members, b.source(of))
	}
	return members
}

// merged restores the chain of a backup into a folder.
func (b *bench) merged(members []physical.Source) (dir string) {
	b.t.Helper()
	s, closer, err := merge.Chain(b.t.Context(), "", members)
	if err != nil {
		b.t.Fatal(err)
	}
	defer closer.Close()
	dir, files := b.unpackFrom(s)
	if int64(len(files)) != s.Backup.Physical.Files {
		b.t.Errorf("%d files are in the merged list, and %d were announced", len(files), s.Backup.Physical.Files)
	}
	for _, f := range files {
		if _, incremental := pgdata.IncrementalOf(f.Path); incremental || f.Kind == physical.KindIncremental {
			b.t.Errorf("%s is in the merged list", f.Path)
		}
	}
	return dir
}

// combined has PostgreSQL's own program merge the chain of a backup.
func (b *bench) combined(members []physical.Source, binDir string) (dir string) {
	b.t.Helper()
	out := filepath.Join(b.t.TempDir(), "out")
	args := []string{"--no-sync", "--no-manifest", "-o", out}
	for i := len(members) - 1; i >= 0; i-- {
		dir, _ := b.unpack(members[i].Backup)
		b.verifyWith(members[i].Backup, dir)
		args = append(args, dir)
	}
	if text, err := exec.CommandContext(b.t.Context(), filepath.Join(binDir, "pg_combinebackup"), args...).CombinedOutput(); err != nil {
		b.t.Fatalf("pg_combinebackup: %v\n%s", err, text)
	}
	return out
}

// fetchWAL puts the WAL of a backup where a server that starts on its files finds it.
func (b *bench) fetchWAL(m *pgmedic.Backup, dir string) {
	b.t.Helper()
	ctx := b.t.Context()
	systems, err := archive.Systems(ctx, b.store, "clinic")
	if err != nil || len(systems) != 1 {
		b.t.Fatal(systems, err)
	}
	fetcher, err := archive.New(b.store, "clinic", systems[0]).NewFetcher(ctx, func(_ context.Context, _ string, wraps []archive.StoredWrap) (*seal.Key, error) {
		return seal.OpenKey(wraps[0].Data, []age.Identity{b.identity})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	size := wal.SegmentSize(m.Physical.WALSegmentBytes)
	at, _ := wal.ParseLSN(m.Physical.StartLSN)
	stop, _ := wal.ParseLSN(m.Physical.StopLSN)
	for at = size.Start(at); at < stop; at += wal.LSN(size) {
		name := size.Name(size.Segment(wal.Timeline(m.Physical.Timeline), at))
		out, err := os.Create(filepath.Join(dir, "pg_wal", name))
		if err != nil {
			b.t.Fatal(err)
		}
		if err := fetcher.Fetch(ctx, name, out); err != nil {
			b.t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			b.t.Fatal(err)
		}
	}
}

// start starts a server on a folder, and returns a connection to it.
func (b *bench) start(dir string) *pgx.Conn {
	b.t.Helper()
	info, err := os.Stat(b.server.DataDir())
	if err != nil {
		b.t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	sockets, err := os.MkdirTemp("", "s")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	// The folders of the test, which another user passes through.
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err != nil {
			b.t.Fatal(err)
		}
		if info.Mode()&0o001 != 0 {
			break
		}
		if err := os.Chmod(parent, 0o711); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	for _, root := range []string{dir, sockets} {
		b.owned(root)
	}
	cmd := exec.Command(filepath.Join(b.server.BinDir(), "postgres"), "-D", dir, "-k", sockets, "-p", "5432", "-c", "listen_addresses=",
		"-c", "autovacuum=off", "-c", "archive_mode=off", "-c", "logging_collector=off", "-c", "unix_socket_directories="+sockets)
	if b.server.Major() >= 17 {
		cmd.Args = append(cmd.Args, "-c", "summarize_wal=off")
	}
	var log strings.Builder
	cmd.Dir, cmd.Stdout, cmd.Stderr = sockets, &log, &log
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	b.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGQUIT)
		<-ended
		if b.t.Failed() {
			b.t.Logf("the restored server said:\n%s", log.String())
		}
	})
	config, err := pgx.ParseConfig(b.server.DSN("postgres"))
	if err != nil {
		b.t.Fatal(err)
	}
	config.Host, config.Port, config.Fallbacks = sockets, 5432, nil
	var conn *pgx.Conn
	testkit.Eventually(b.t, time.Minute, "the restored server is ready", func() bool {
		select {
		case err := <-ended:
			ended <- err
			b.t.Fatalf("the restored server has ended: %v", err)
		default:
		}
		conn, err = pgx.ConnectConfig(b.t.Context(), config)
		return err == nil
	})
	b.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(b.t.Context())) })
	return conn
}

// owned gives a folder and what is in it to the user of the server.
func (b *bench) owned(root string) {
	b.t.Helper()
	info, err := os.Stat(b.server.DataDir())
	if err != nil {
		b.t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || os.Geteuid() != 0 {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func ask(t *testing.T, conn *pgx.Conn, sql string) (answer string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

// ghosts makes a table that VACUUM cuts and COPY makes grow again: F12 of upstream's faults.
func (b *bench) ghosts() (before, after []string) {
	file := filepath.Join(b.server.Dir(), "copied")
	return []string{
			"CREATE TABLE public.ghost (i int, pad text)", "INSERT INTO public.ghost SELECT i, repeat('g', 400) FROM generate_series(1, 20000) AS i",
			"VACUUM public.ghost", "CHECKPOINT",
		}, []string{
			"DELETE FROM public.ghost WHERE i > 15000", "VACUUM public.ghost",
			"COPY (SELECT i, repeat('n', 400) FROM generate_series(100001, 100600) AS i) TO '" + file + "'",
			"COPY public.ghost FROM '" + file + "'", "CHECKPOINT",
		}
}

const (
	// countGhosts is how many of the deleted rows are there.
	countGhosts = "SELECT count(*)::text FROM public.ghost WHERE i BETWEEN 15001 AND 100000"
	// countByIndex and countByTable must be the same.
	countByTable = "SELECT count(*)::text FROM public.vm"
	countByIndex = "SELECT count(*)::text FROM public.vm WHERE i > 0"
)

// stale makes a visibility map that says of pages what they no longer are: VACUUM cuts them off,
// and they come back with other rows, which are deleted. The row before the first of them fills
// its page.
func stale() (before, after []string) {
	return []string{
			"CREATE TABLE public.vm (i int PRIMARY KEY, pad text)", "INSERT INTO public.vm SELECT i, repeat('v', 50) FROM generate_series(1, 100000) AS i",
			"DELETE FROM public.vm WHERE ctid >= '(11,0)'", "VACUUM (TRUNCATE false) public.vm", "CHECKPOINT",
		}, []string{
			"VACUUM public.vm", "INSERT INTO public.vm SELECT i, repeat('w', 50) FROM generate_series(200001, 300000) AS i",
			"DELETE FROM public.vm WHERE ctid >= '(11,0)'", "CHECKPOINT",
		}
}

// countOnly counts by an index alone.
func countOnly(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), "SET enable_seqscan = off; SET enable_bitmapscan = off").ReadAll(); err != nil {
		t.Fatal(err)
	}
	return ask(t, conn, countByIndex)
}

// sums are what a cluster has, for comparison.
const sums = `SELECT string_agg(x, ' ') FROM (
SELECT 'g' || count(*) || ' ' || sum(hashtext(i || pad)) AS x FROM public.ghost UNION ALL
SELECT 'v' || count(*) || ' ' || sum(hashtext(i || pad)) FROM (SELECT * FROM public.vm OFFSET 0) AS v UNION ALL
SELECT 'k' || count(*) || ' ' || sum(hashtext(i || pad)) FROM public.kept) AS all_of_it`

// TestIncrementalChain restores chains of three and holds them against the source. The same
// chains, merged by PostgreSQL's own program, are wrong; the log says when they no longer are.
func TestIncrementalChain(t *testing.T) {
	testkit.OnlyAll(t, "it takes PostgreSQL 17 and 18 and four servers of each")
	scratchtest.EachCompleteFrom(t, 17, func(t *testing.T, installation scratch.Installation) {
		for _, c := range []chainCase{{installation.BinDir, true, installation.BinDir}, {installation.BinDir, false, installation.BinDir}, {"", false, installation.BinDir}} {
			name := fmt.Sprintf("checksums %v", c.checksums)
			if c.binDir == "" {
				name = "another minor version"
			}
			t.Run(name, func(t *testing.T) { chainOfThree(t, installation.Major, c) })
		}
	})
}

// chainCase is a server, and where the program is that is the control. The server's folder is
// empty for the one that other tests take, which may be of another minor version.
type chainCase struct {
	binDir    string
	checksums bool
	control   string
}

func chainOfThree(t *testing.T, major int, c chainCase) {
	initArgs := []string{"--data-checksums"}
	if !c.checksums {
		if initArgs = nil; major >= 18 {
			initArgs = []string{"--no-data-checksums"}
		}
	}
	b := newChainBench(t, scratch.Options{Major: major, BinDir: c.binDir, InitArgs: initArgs})
	ghostsBefore, ghostsAfter := b.ghosts()
	staleBefore, staleAfter := stale()
	b.run("CREATE TABLE public.kept AS SELECT i, repeat('k', 300) AS pad FROM generate_series(1, 5000) AS i")
	b.run(ghostsBefore...)
	b.run(staleBefore...)
	full := b.take()
	b.run("UPDATE public.kept SET pad = 'changed' WHERE i % 700 = 0", "CREATE TABLE public.dropped AS SELECT 1 AS x")
	first := b.take()
	b.run(ghostsAfter...)
	b.run(staleAfter...)
	b.run("DROP TABLE public.dropped", "UPDATE public.kept SET pad = 'again' WHERE i % 900 = 0", "INSERT INTO public.kept SELECT i, 'new' FROM generate_series(5001, 9000) AS i", "CHECKPOINT")
	second := b.take()
	for i, m := range []*pgmedic.Backup{full, first, second} {
		p := m.Physical
		if p.Depth != i || (p.Kind == pgmedic.PhysicalFull) != (i == 0) || !m.Clean() || p.PagesChecked == 0 {
			t.Fatalf("backup %d is %s of depth %d, clean %v\n%s", i, p.Kind, p.Depth, m.Clean(), b.log.String())
		}
	}
	if second.Physical.Parent != first.ID || first.Physical.PlainBytes > full.Physical.PlainBytes/3 || len(second.Physical.Truncations) == 0 {
		t.Errorf("the second is of %s, the first has %d bytes of %d, %v were cut", second.Physical.Parent, first.Physical.PlainBytes, full.Physical.PlainBytes, second.Physical.Truncations)
	}
	source := testkit.Dial(t, b.server.DSN("postgres"))
	defer testkit.End(source)
	want := ask(t, source, sums)
	members := b.members(second)

	dir := b.merged(members)
	b.fetchWAL(second, dir)
	restored := b.start(dir)
	if got := ask(t, restored, sums); got != want {
		t.Errorf("the restored cluster has %s, and the source %s", got, want)
	}
	if got := ask(t, restored, countGhosts); got != "0" {
		t.Errorf("%s deleted rows are back", got)
	}
	vm := ask(t, source, countByTable)
	if got := countOnly(t, restored); got != vm {
		t.Errorf("an index alone counts %s rows, and the table has %s", got, vm)
	}

	// The control.
	dir = b.combined(members, c.control)
	b.fetchWAL(second, dir)
	control := b.start(dir)
	version := ask(t, control, "SHOW server_version")
	number, _, _ := strings.Cut(version, " ")
	if ghosts := ask(t, control, countGhosts); ghosts == "0" && slices.Contains([]string{"17.10", "17.12", "18.4", "18.6"}, number) {
		t.Errorf("PostgreSQL %s brings no deleted row back, and it is known to: what is restored above shows nothing", version)
	} else if ghosts == "0" {
		t.Logf("PostgreSQL %s no longer brings deleted rows back: docs/incremental.md can say so", version)
	} else {
		t.Logf("PostgreSQL %s brings %s deleted rows back", version, ghosts)
	}
	if counted := countOnly(t, control); counted != vm {
		t.Logf("PostgreSQL %s: an index alone counts %s rows of %s", version, counted, vm)
	} else if !c.checksums {
		t.Logf("PostgreSQL %s does not restore a stale visibility map", version)
	}
}

// TestIncrementalRegrown: of a table that is cut in one summary and grows again in a later one
// PostgreSQL can lose blocks, whatever merges them: the backup is a full one.
func TestIncrementalRegrown(t *testing.T) {
	testkit.OnlyAll(t, "it takes PostgreSQL 17 and 18")
	scratchtest.EachCompleteFrom(t, 17, func(t *testing.T, installation scratch.Installation) {
		b := newChainBench(t, scratch.Options{Major: installation.Major, BinDir: installation.BinDir})
		before, after := b.ghosts()
		b.run(before...)
		b.take()
		b.run(after[:2]...)
		b.run("CHECKPOINT")
		b.run(after[2:]...)
		if m := b.take(); m.Physical.Kind != pgmedic.PhysicalFull || !strings.Contains(b.log.String(), "was cut and grew again in different WAL summaries") {
			t.Errorf("%+v\n%s", m.Physical, b.log.String())
		}
		if m := b.take(); m.Physical.Kind != pgmedic.PhysicalIncremental {
			t.Errorf("the next one is not incremental to it: %s", b.log.String())
		}
	})
}
