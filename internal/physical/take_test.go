package physical_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// bench is a server with a role that has REPLICATION alone, and a store.
type bench struct {
	t        *testing.T
	server   *scratch.Server
	store    store.Store
	identity *age.X25519Identity
	log      bytes.Buffer
	o        physical.Options
}

func newBench(t *testing.T, opts scratch.Options) *bench {
	t.Helper()
	settings := map[string]string{"wal_level": "replica", "autovacuum": "off", "checkpoint_timeout": "1h", "max_wal_senders": "5"}
	for name, value := range opts.Settings {
		settings[name] = value
	}
	opts.Settings, opts.InitArgs = settings, append(opts.InitArgs, "--wal-segsize=1")
	b := &bench{t: t, server: scratchtest.New(t, opts)}
	b.run("CREATE ROLE replicator LOGIN REPLICATION")
	local, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = local.Close() })
	b.store = local
	if b.identity, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	b.o = physical.Options{
		Target: b.target(), ServerName: "clinic", Catalog: catalog.New(b.store), Host: "test", Version: "test", Workers: 2,
		Seal:   seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionAge},
		Wraps:  []seal.Wrap{{Name: "test", To: b.identity.Recipient()}},
		Logger: slog.New(slog.NewTextHandler(&b.log, nil)), Now: time.Now,
	}
	return b
}

func (b *bench) target() postgres.Target {
	return postgrestest.Parse(b.t, b.server.DSN("postgres")).With("user", "replicator")
}

func (b *bench) run(statements ...string) {
	b.t.Helper()
	postgrestest.Run(b.t, postgrestest.Connect(b.t, postgrestest.Parse(b.t, b.server.DSN("postgres"))), statements...)
}

func (b *bench) take() *pgmedic.Backup {
	b.t.Helper()
	m, err := physical.Take(b.t.Context(), b.o)
	if err != nil {
		b.t.Fatalf("%v (%s)\n%s", err, pgmedic.HintOf(err), b.log.String())
	}
	// As it is read back.
	e, err := b.o.Catalog.Get(b.t.Context(), m.ID, catalog.Filter{Server: "clinic", Cluster: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return e.Backup
}

// source opens a backup.
func (b *bench) source(m *pgmedic.Backup) physical.Source {
	b.t.Helper()
	wraps, err := b.o.Catalog.Keys(b.t.Context(), m)
	if err != nil {
		b.t.Fatal(err)
	}
	key, err := seal.OpenKey(wraps.Get("test"), []age.Identity{b.identity})
	if err != nil {
		b.t.Fatal(err)
	}
	return physical.Source{Store: b.store, Backup: m, Key: key}
}

// unpack writes the files of a backup into a new folder, and checks each one's CRC.
func (b *bench) unpack(m *pgmedic.Backup) (dir string, files []physical.File) {
	b.t.Helper()
	return b.unpackFrom(b.source(m))
}

func (b *bench) unpackFrom(s physical.Source) (dir string, files []physical.File) {
	b.t.Helper()
	dir = b.t.TempDir()
	list, closer, err := s.Files(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer closer.Close()
	chunks, contents := s.Chunks(), map[int64][]byte{}
	defer chunks.Close()
	for {
		e, err := list.Next()
		if errors.Is(err, io.EOF) {
			return dir, files
		}
		if err != nil {
			b.t.Fatal(err)
		}
		if e.Chunk != nil {
			plain, err := chunks.Read(b.t.Context(), *e.Chunk)
			if err != nil {
				b.t.Fatal(err)
			}
			contents[e.Chunk.ID] = bytes.Clone(plain)
			continue
		}
		f := *e.File
		files = append(files, f)
		path := filepath.Join(dir, f.Path)
		if f.Kind == physical.KindFolder {
			if err := os.MkdirAll(path, 0o700); err != nil {
				b.t.Fatal(err)
			}
			continue
		}
		var content []byte
		for _, x := range f.Extents {
			if x.Chunk == physical.Hole {
				content = append(content, make([]byte, x.Bytes)...)
				continue
			}
			content = append(content, contents[x.Chunk][x.Offset:x.Offset+x.Bytes]...)
		}
		if crc := fmt.Sprintf("%08x", crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))); crc != f.CRC32C && f.CRC32C != "" {
			b.t.Errorf("%s has CRC %s, and %s is recorded", f.Path, crc, f.CRC32C)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

// verifyWith runs the installation's own pg_verifybackup, if it has one.
func (b *bench) verifyWith(m *pgmedic.Backup, dir string) {
	b.t.Helper()
	program := filepath.Join(b.server.BinDir(), "pg_verifybackup")
	if _, err := os.Stat(program); err != nil || m.Server.Major() < 13 {
		return
	}
	r, err := b.source(m).Object(b.t.Context(), pgmedic.RoleServerManifest)
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "backup_manifest"), text, 0o600); err != nil {
		b.t.Fatal(err)
	}
	out, err := exec.CommandContext(b.t.Context(), program, "--no-parse-wal", "--exit-on-error", dir).CombinedOutput()
	if err != nil {
		b.t.Errorf("pg_verifybackup: %v\n%s", err, out)
	}
}

// walStored reports whether the WAL that a backup needs is in the store.
func (b *bench) walStored(m *pgmedic.Backup) bool {
	b.t.Helper()
	systems, err := archive.Systems(b.t.Context(), b.store, "clinic")
	if err != nil || len(systems) != 1 {
		b.t.Fatalf("systems %v, %v", systems, err)
	}
	survey, err := archive.New(b.store, "clinic", systems[0]).Survey(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	start, startErr := wal.ParseLSN(m.Physical.StartLSN)
	stop, stopErr := wal.ParseLSN(m.Physical.StopLSN)
	if startErr != nil || stopErr != nil {
		b.t.Fatal(startErr, stopErr)
	}
	return survey.Reach(wal.Timeline(m.Physical.StopTimeline), start) >= stop
}

// checkTake takes a backup and holds it against the server's own manifest.
func (b *bench) checkTake() *pgmedic.Backup {
	b.t.Helper()
	t := b.t
	b.run("CREATE TABLE public.big AS SELECT g AS id, repeat('x', 200) AS pad FROM generate_series(1, 20000) AS g", "CREATE UNLOGGED TABLE public.u (x int)", "INSERT INTO public.u VALUES (1)")
	m := b.take()
	p := m.Physical
	if m.Server.SystemIdentifier == "" || m.Database.Name != "" || p.Kind != pgmedic.PhysicalFull || p.PagesChecked < 500 || p.BadPages != 0 || !m.Clean() ||
		p.BlockBytes != 8192 || p.WALSegmentBytes != 1<<20 || len(p.Databases) < 3 || p.Databases[0].SizeBytes == 0 || m.SnapshotLSN != p.StopLSN {
		p.PageErrors = p.PageErrors[:min(5, len(p.PageErrors))]
		t.Errorf("the manifest says %+v of %+v", p, m.Server)
	}
	dir, files := b.unpack(m)
	b.verifyWith(m, dir)
	if !b.walStored(m) {
		t.Error("the WAL of the backup is not stored")
	}
	if int64(len(files)) != p.Files || files[len(files)-1].Path != "global/pg_control" {
		t.Errorf("%d files are listed and %d in the manifest; the last is %s", len(files), p.Files, files[len(files)-1].Path)
	}
	for _, space := range p.Tablespaces {
		prefix := fmt.Sprintf("pg_tblspc/%d/PG_", space.OID)
		if !slices.ContainsFunc(files, func(f physical.File) bool {
			return strings.HasPrefix(f.Path, prefix) && f.Kind == physical.KindRelation
		}) {
			t.Errorf("no files below %s", prefix)
		}
	}
	if slices.ContainsFunc(files, func(f physical.File) bool { return strings.HasPrefix(f.Path, "pg_wal/0") }) {
		t.Error("files of WAL are in the backup")
	}
	if left := b.slots(); left != "0" {
		t.Errorf("%s replication slots are left", left)
	}
	return m
}

func (b *bench) slots() string {
	b.t.Helper()
	conn := postgrestest.Connect(b.t, postgrestest.Parse(b.t, b.server.DSN("postgres")))
	var n string
	testkit.Eventually(b.t, time.Minute, "the slot is gone", func() bool {
		n = postgrestest.Query[string](b.t, conn, "SELECT count(*)::text FROM pg_replication_slots")
		return n == "0"
	})
	return n
}
