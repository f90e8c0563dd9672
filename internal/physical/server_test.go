package physical_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/walstream"
)

// tablespace makes a tablespace outside of the data directory, with a table in it.
func (b *bench) tablespace(name string) {
	b.t.Helper()
	b.space(name)
	b.run("CREATE TABLE public.there TABLESPACE " + name + " AS SELECT g FROM generate_series(1, 1000) AS g")
}

// space makes a tablespace outside of the data directory.
func (b *bench) space(name string) {
	b.t.Helper()
	dir := filepath.Join(filepath.Dir(b.server.DataDir()), name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	if out, err := exec.CommandContext(b.t.Context(), "chown", "--reference="+b.server.DataDir(), dir).CombinedOutput(); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	b.run("CREATE TABLESPACE " + name + " LOCATION '" + dir + "'")
}

// TestTake takes a backup with a tablespace apart, and has PostgreSQL's own program compare it.
func TestTake(t *testing.T) {
	for i, major := range scratchtest.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			opts := scratch.Options{Major: major}
			if i%2 == 0 {
				opts.InitArgs = []string{"--data-checksums"}
			}
			b := newBench(t, opts)
			b.tablespace("elsewhere")
			m := b.checkTake()
			if len(m.Physical.Tablespaces) != 1 || m.Physical.Tablespaces[0].SizeBytes < 30<<10 || (m.Physical.ServerManifestSHA256 != "") != (major >= 13) {
				t.Errorf("the manifest says %+v", m.Physical)
			}
		})
	}
}

// TestTakeFromStandby takes a backup of a standby.
func TestTakeFromStandby(t *testing.T) {
	testkit.OnlyAll(t, "two servers of each version")
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			b := newBench(t, scratch.Options{Major: major, InitArgs: []string{"--data-checksums"}, Settings: map[string]string{"full_page_writes": "on"}})
			b.run("CREATE TABLE public.t AS SELECT g FROM generate_series(1, 1000) AS g")
			standby := scratchtest.NewStandby(t, b.server, scratch.StandbyOptions{})
			b.o.Target = postgrestest.Parse(t, standby.DSN("postgres")).With("user", "replicator")
			m := b.take()
			dir, _ := b.unpack(m)
			b.verifyWith(m, dir)
			if !m.Physical.FromStandby || !m.Server.Standby || !b.walStored(m) || m.Physical.PagesChecked < 500 || !m.Clean() {
				t.Errorf("the manifest says %+v", m.Physical)
			}
		})
	}
}

// TestDamagedPages: pages that are wrong on the server do not end the backup, and are named.
// What is not of a relation is not checked.
func TestDamagedPages(t *testing.T) {
	b := newBench(t, scratch.Options{InitArgs: []string{"--data-checksums"}})
	b.run("CREATE TABLE public.t AS SELECT g, repeat('x', 200) AS pad FROM generate_series(1, 2000) AS g", "CHECKPOINT")
	conn := postgrestest.Connect(t, postgrestest.Parse(t, b.server.DSN("postgres")))
	path := postgrestest.Query[string](t, conn, "SELECT pg_relation_filepath('public.t')")
	spoil := func(block int64) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(b.server.DataDir(), path), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt([]byte("spoilt"), block*8192+4000)
			_ = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	spoil(3)
	spoil(7)
	if err := os.WriteFile(filepath.Join(b.server.DataDir(), filepath.Dir(path), "pg_internal.note"), []byte("no page"), 0o644); err != nil {
		t.Fatal(err)
	}
	// A role that may read files reads a page that seems wrong again.
	b.run("GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO replicator", "GRANT pg_read_server_files TO replicator")
	m := b.take()
	want := []pgmedic.PageError{{Path: path, Block: 3, Why: pgmedic.PageFaultChecksum}, {Path: path, Block: 7, Why: pgmedic.PageFaultChecksum}}
	if p := m.Physical; m.Clean() || p.BadPages != 2 || len(p.PageErrors) != 2 || p.PageErrors[0] != want[0] || p.PageErrors[1] != want[1] {
		t.Errorf("%d bad pages: %+v, want %+v", m.Physical.BadPages, m.Physical.PageErrors, want)
	}
}

// TestOtherCluster: another server under the name of the first is refused, unless it is said to
// replace it.
func TestOtherCluster(t *testing.T) {
	testkit.OnlyAll(t, "two servers")
	b := newBench(t, scratch.Options{})
	b.take()
	// Without a database the one of maintenance is asked, and none with the name of the role.
	b.o.Target = b.target().WithDatabase("")
	first := b.take()
	if len(first.Physical.Databases) == 0 || strings.Contains(b.log.String(), "no ordinary session") {
		t.Errorf("without a database: %+v\n%s", first.Physical.Databases, b.log.String())
	}
	other := newBench(t, scratch.Options{})
	b.o.Target = other.target()
	_, err := physical.Take(t.Context(), b.o)
	if pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(pgmedic.HintOf(err), "--new-cluster") || !strings.Contains(err.Error(), first.ID) {
		t.Errorf("another cluster: %v", err)
	}
	b.o.NewCluster = true
	if m := b.take(); m.Server.SystemIdentifier == first.Server.SystemIdentifier {
		t.Error("it is the same cluster")
	}
}

// TestBesideStream: where a stream of the server's WAL runs, the backup relies on it, and where
// that has ended without a word it streams itself.
func TestBesideStream(t *testing.T) {
	b := newBench(t, scratch.Options{})
	systems := func() (epochs int, seen bool) {
		t.Helper()
		all, err := archive.Systems(t.Context(), b.store, "clinic")
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 0 {
			return 0, false
		}
		survey, err := archive.New(b.store, "clinic", all[0]).Survey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(survey.Epochs), len(survey.Seen) > 0
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- walstream.Run(ctx, walstream.Options{
			Target: b.target(), Server: "clinic", Store: b.store, Slot: "ours", MaxDelay: time.Second, Seal: b.o.Seal, Wraps: b.o.Wraps,
			Host: "test", Version: "test",
		})
	}()
	testkit.Eventually(t, time.Minute, "the stream has seen the server", func() bool { _, seen := systems(); return seen })
	m := b.take()
	if n, _ := systems(); n != 1 || !b.walStored(m) {
		t.Errorf("%d epochs, and the stream's is one; all stored: %t", n, b.walStored(m))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	b.o.Patience = time.Nanosecond
	m = b.take()
	if n, _ := systems(); n != 2 || !b.walStored(m) {
		t.Errorf("%d epochs after the stream has ended; all stored: %t", n, b.walStored(m))
	}
}

// TestPlain: a backup that is neither encrypted nor compressed, at a slow rate and with a
// checkpoint at the server's pace, by a role that may do nothing else.
func TestPlain(t *testing.T) {
	testkit.OnlyAll(t, "a backup that takes some seconds")
	b := newBench(t, scratch.Options{Settings: map[string]string{"checkpoint_completion_target": "0.1", "checkpoint_timeout": "30s"}})
	b.o.Seal, b.o.Wraps = seal.Options{Compression: seal.CompressionNone}, nil
	b.o.Spread, b.o.MaxRate = true, 8<<20
	m := b.take()
	if m.Seal.Encryption != "none" || m.Physical.Checksums {
		t.Errorf("%+v, %+v", m.Seal, m.Physical)
	}
}

// TestInterrupted: a backup that is interrupted leaves nothing in the list, and no slot.
func TestInterrupted(t *testing.T) {
	b := newBench(t, scratch.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b.o.Progress = func(pgmedic.Event) { cancel() }
	if _, err := physical.Take(ctx, b.o); err == nil {
		t.Fatal("it was not interrupted")
	}
	if left := b.slots(); left != "0" {
		t.Errorf("%s replication slots are left", left)
	}
	b.o.Progress = nil
	b.take()
}

// TestUnderLoad: pages that are written all the time while they are copied are no damage.
func TestUnderLoad(t *testing.T) {
	testkit.OnlyAll(t, "several backups of a server that is written to all the time")
	b := newBench(t, scratch.Options{InitArgs: []string{"--data-checksums"}, Settings: map[string]string{"full_page_writes": "on", "max_wal_size": "64MB", "shared_buffers": "2MB"}})
	b.run("CREATE TABLE public.t AS SELECT g, repeat('x', 200) AS pad FROM generate_series(1, 100000) AS g", "CREATE INDEX ON public.t (g)",
		"GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO replicator", "GRANT pg_read_server_files TO replicator")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	for i := range 3 {
		conn := postgrestest.Connect(t, postgrestest.Parse(t, b.server.DSN("postgres")))
		go func() {
			defer func() { ended <- struct{}{} }()
			for n := 0; ctx.Err() == nil; n++ {
				sql := "UPDATE public.t SET pad = pad WHERE g % 997 = " + strconv.Itoa((n*7+i)%997)
				if i == 0 && n%20 == 0 {
					sql = "CHECKPOINT"
				}
				if _, err := conn.Exec(context.WithoutCancel(ctx), sql); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	for range testkit.Amount(1, 5, 100) {
		if m := b.take(); !m.Clean() {
			t.Errorf("bad pages: %+v", m.Physical.PageErrors)
		}
	}
	cancel()
	for range 3 {
		<-ended
	}
}
