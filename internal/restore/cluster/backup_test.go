package cluster_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/owner"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// bench is a server whose base backups and WAL go into a store.
type bench struct {
	t      *testing.T
	server *scratch.Server
	conn   *pgx.Conn
	dir    string // which the server's user can enter
	store  store.Store
	stored string // its folder
	system uint64
	wal    *archive.Archive
	epoch  *archive.Epoch
	port   int
}

func newBench(t *testing.T, major int) *bench {
	t.Helper()
	settings := map[string]string{"wal_level": "replica", "autovacuum": "off", "checkpoint_timeout": "1h", "max_wal_size": "1GB", "min_wal_size": "500MB"}
	b := &bench{t: t, server: scratchtest.New(t, scratch.Options{Major: major, Durable: true, InitArgs: []string{"--wal-segsize=1"}, Settings: settings})}
	b.conn = postgrestest.Connect(t, postgrestest.Parse(t, b.server.DSN("postgres")))
	dir, err := os.MkdirTemp("", "cluster-") //nolint:usetesting // the server's user must be able to enter it
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b.dir, b.stored = dir, filepath.Join(dir, "store")
	if b.store, err = store.NewLocal(store.LocalOptions{Dir: b.stored}); err != nil {
		t.Fatal(err)
	}
	if b.system, err = strconv.ParseUint(b.query("SELECT system_identifier::text FROM pg_control_system()"), 10, 64); err != nil {
		t.Fatal(err)
	}
	b.run("SELECT pg_create_physical_replication_slot('keeps_wal', true)")
	b.wal = archive.New(b.store, "clinic", b.system)
	b.epoch, err = b.wal.Begin(t.Context(), archive.EpochOptions{Info: archive.EpochInfo{
		StartedAt: time.Now(), SegmentBytes: int64(wal.MinSegmentSize), Timeline: 1, From: wal.MinSegmentSize.Start(b.lsn()),
	}, Seal: seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionNone}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) run(statements ...string) {
	b.t.Helper()
	postgrestest.Run(b.t, b.conn, statements...)
}

func (b *bench) query(sql string) string {
	b.t.Helper()
	return postgrestest.Query[string](b.t, b.conn, sql)
}

func (b *bench) lsn() wal.LSN {
	b.t.Helper()
	return b.parse(b.query("SELECT pg_current_wal_flush_lsn()::text"))
}

func (b *bench) parse(text string) wal.LSN {
	b.t.Helper()
	l, err := wal.ParseLSN(text)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// user is who runs the server.
func (b *bench) user() *owner.ID {
	b.t.Helper()
	info, err := os.Stat(b.server.DataDir())
	if err != nil {
		b.t.Fatal(err)
	}
	if id, _ := owner.Of(info); os.Geteuid() == 0 {
		return &id
	}
	return nil
}

// folder makes a folder for the server's user.
func (b *bench) folder(name string) string {
	b.t.Helper()
	dir := filepath.Join(b.dir, name)
	err := os.MkdirAll(dir, 0o700)
	if user := b.user(); err == nil && user != nil {
		err = os.Chown(dir, user.UID, user.GID)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// storeWAL stores all segments that are whole, and of the last one what there is.
func (b *bench) storeWAL() {
	b.t.Helper()
	end := b.lsn()
	size := wal.MinSegmentSize
	entries, err := os.ReadDir(filepath.Join(b.server.DataDir(), "pg_wal"))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		s, err := size.Parse(e.Name())
		if err != nil || s.Start >= end || s.Start < size.Start(b.first()) {
			continue
		}
		plain, err := os.ReadFile(filepath.Join(b.server.DataDir(), "pg_wal", e.Name()))
		if err == nil && end >= s.Start+wal.LSN(size) {
			err = b.epoch.PutSegment(b.t.Context(), s, plain)
		} else if err == nil {
			err = b.epoch.PutTail(b.t.Context(), s, 0, plain[:end-s.Start])
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) first() wal.LSN {
	b.t.Helper()
	return b.parse(b.query("SELECT restart_lsn::text FROM pg_replication_slots"))
}

// backup takes a base backup, by SQL and by copying files.
func (b *bench) backup() *pgmedic.Backup {
	b.t.Helper()
	begin, end := "SELECT pg_backup_start('test', true)::text", "SELECT lsn::text, labelfile, spcmapfile FROM pg_backup_stop(false)"
	if b.server.Major() < 15 {
		begin, end = "SELECT pg_start_backup('test', true, false)::text", "SELECT lsn::text, labelfile, spcmapfile FROM pg_stop_backup(false, false)"
	}
	now := time.Now().UTC()
	p := &pgmedic.Physical{
		Kind: pgmedic.PhysicalFull, Timeline: 1, StopTimeline: 1, BlockBytes: 8192, SegmentBytes: 1 << 30, WALSegmentBytes: int64(wal.MinSegmentSize),
		StartLSN: b.query(begin),
	}
	p.CheckpointLSN = p.StartLSN
	backup := &pgmedic.Backup{
		Format: pgmedic.PhysicalFormat, ID: catalog.NewID(now), Method: pgmedic.MethodPhysical, StartedAt: now, Physical: p,
		Seal:   pgmedic.Seal{Compression: "zstd", Encryption: "none"},
		Server: pgmedic.Server{Name: "clinic", SystemIdentifier: strconv.FormatUint(b.system, 10), VersionNum: b.server.Major() * 10000},
	}
	packer := newPacker(b.t, backup)
	b.addTree(packer, b.server.DataDir(), "")
	var label, spaces string
	if err := b.conn.QueryRow(b.t.Context(), end).Scan(&p.StopLSN, &label, &spaces); err != nil {
		b.t.Fatal(err)
	}
	packer.add("backup_label", []byte(label))
	if spaces != "" {
		packer.add("tablespace_map", []byte(spaces))
	}
	for _, line := range strings.Split(strings.TrimSpace(spaces), "\n") {
		if oid, location, ok := strings.Cut(line, " "); ok {
			n, err := strconv.ParseUint(oid, 10, 32)
			if err != nil {
				b.t.Fatal(err)
			}
			p.Tablespaces = append(p.Tablespaces, pgmedic.Tablespace{OID: uint32(n), Location: location})
			b.addTree(packer, location, "pg_tblspc/"+oid)
		}
	}
	control, err := os.ReadFile(filepath.Join(b.server.DataDir(), "global/pg_control"))
	if err != nil {
		b.t.Fatal(err)
	}
	packer.add("global/pg_control", control)
	packer.close(b.store)
	return backup
}

// addTree adds the files below a folder.
func (b *bench) addTree(packer *packer, dir, prefix string) {
	b.t.Helper()
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		relative, relErr := filepath.Rel(dir, name)
		if errors.Is(err, fs.ErrNotExist) || relative == "." && prefix == "" {
			return nil
		}
		if err = errors.Join(err, relErr); err != nil {
			return err
		}
		list := filepath.Join(prefix, relative)
		switch top := strings.Split(list, "/")[0]; {
		case entry.IsDir():
			packer.file(physical.File{Path: list, Kind: physical.KindFolder, Mode: 0o700})
			if list == "pg_wal/archive_status" || top == "pg_replslot" || top == "pg_dynshmem" || top == "pg_stat_tmp" || top == "pg_notify" {
				return fs.SkipDir
			}
			return nil
		case !entry.Type().IsRegular(), top == "pg_wal", list == "global/pg_control", strings.HasPrefix(list, "postmaster."):
			return nil
		}
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			packer.add(list, text)
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// packer packs files as a backup does, some in a chunk.
type packer struct {
	t      *testing.T
	backup *pgmedic.Backup
	list   *physical.Writer
	text   bytes.Buffer
	pack   bytes.Buffer
	plain  []byte
	files  []physical.File
	chunks int64
}

func newPacker(t *testing.T, backup *pgmedic.Backup) *packer {
	t.Helper()
	p := &packer{t: t, backup: backup}
	var err error
	if p.list, err = physical.NewWriter(&p.text, backup); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *packer) file(f physical.File) {
	p.t.Helper()
	if f.Kind != physical.KindFolder {
		p.files = append(p.files, f)
		return
	}
	if err := p.list.File(f); err != nil {
		p.t.Fatal(err)
	}
}

// chunkBytes is small, so that files have several chunks and chunks several files.
const chunkBytes = 300_000

func (p *packer) add(name string, text []byte) {
	p.t.Helper()
	f := physical.File{
		Path: name, Kind: physical.KindOther, SizeBytes: int64(len(text)), Mode: 0o600, ModifiedAt: 1,
		CRC32C: fmt.Sprintf("%08x", crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli))),
	}
	for len(text) > 0 {
		if len(text) >= physical.HoleBytes && f.SizeBytes%physical.HoleBytes == 0 && bytes.Equal(text[:physical.HoleBytes], make([]byte, physical.HoleBytes)) {
			f.Extents = append(f.Extents, physical.Extent{Chunk: physical.Hole, Bytes: physical.HoleBytes})
			text = text[physical.HoleBytes:]
			continue
		}
		n := min(len(text), chunkBytes-len(p.plain))
		f.Extents = append(f.Extents, physical.Extent{Chunk: p.chunks, Offset: int64(len(p.plain)), Bytes: int64(n)})
		p.plain, text = append(p.plain, text[:n]...), text[n:]
		if len(p.plain) == chunkBytes {
			p.flush()
		}
	}
	p.file(f)
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func sealed(t *testing.T, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := seal.NewWriter(&out, seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionNone})
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// flush ends a chunk, and writes the files that it completes.
func (p *packer) flush() {
	p.t.Helper()
	if len(p.plain) > 0 {
		stored := sealed(p.t, p.plain)
		err := p.list.Chunk(physical.Chunk{
			ID: p.chunks, Pack: "pack-0001", Offset: int64(p.pack.Len()), StoredBytes: int64(len(stored)), SHA256: sum(stored),
			PlainBytes: int64(len(p.plain)), PlainSHA256: sum(p.plain),
		})
		if err != nil {
			p.t.Fatal(err)
		}
		p.pack.Write(stored)
		p.chunks++
		p.plain = p.plain[:0]
	}
	for _, f := range p.files {
		if err := p.list.File(f); err != nil {
			p.t.Fatal(err)
		}
	}
	p.files = nil
}

func (p *packer) close(s store.Store) {
	p.t.Helper()
	p.flush()
	var err error
	if p.backup.Physical.Files, p.backup.Physical.PlainBytes, err = p.list.Close(); err != nil {
		p.t.Fatal(err)
	}
	p.put(s, "pack-0001", pgmedic.RolePack, p.pack.Bytes(), int64(p.pack.Len()))
	p.put(s, "files.ndjson.zst", pgmedic.RoleFiles, sealed(p.t, p.text.Bytes()), int64(p.text.Len()))
}

func (p *packer) put(s store.Store, name string, role pgmedic.ObjectRole, stored []byte, plain int64) {
	p.t.Helper()
	if _, err := s.Put(p.t.Context(), catalog.Key(p.backup, name), bytes.NewReader(stored)); err != nil {
		p.t.Fatal(err)
	}
	p.backup.Objects = append(p.backup.Objects, pgmedic.Object{Name: name, Role: role, StoredBytes: int64(len(stored)), SHA256: sum(stored), PlainBytes: plain})
}

// fetcher reads the stored WAL.
func (b *bench) fetcher() *archive.Fetcher {
	b.t.Helper()
	f, err := b.wal.NewFetcher(b.t.Context(), func(context.Context, string, []archive.StoredWrap) (*seal.Key, error) { return nil, nil })
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

// plan plans a recovery.
func (b *bench) plan(backup *pgmedic.Backup, target wal.Target, moves ...string) *recovery.Plan {
	b.t.Helper()
	survey, err := b.wal.Survey(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	base := wal.Base{ID: backup.ID, Timeline: 1, Start: b.parse(backup.Physical.StartLSN), Stop: b.parse(backup.Physical.StopLSN)}
	planned, err := b.fetcher().Plan(b.t.Context(), survey, []wal.Base{base}, target)
	if err != nil {
		b.t.Fatalf("plan %v: %v", target, err)
	}
	p := &recovery.Plan{
		Format: recovery.PlanFormat,
		Backup: backup.ID, Server: "clinic", SystemIdentifier: backup.Server.SystemIdentifier, Major: b.server.Major(), SegmentBytes: int64(wal.MinSegmentSize),
		MadeAt: time.Now(), Target: target.String(), WAL: planned, Through: max(planned.End, base.Stop),
	}
	if p.Tablespaces, err = recovery.Relocate(backup.Physical.Tablespaces, planned.Tablespaces, moves); err != nil {
		b.t.Fatal(err)
	}
	return p
}

// serve writes all that the plan gives PostgreSQL into a folder, and returns the
// restore_command that copies from it.
func (b *bench) serve(p *recovery.Plan) string {
	b.t.Helper()
	dir := b.folder("served-" + filepath.Base(b.t.TempDir()) + "-" + strconv.Itoa(len(p.WAL.Ranges)) + p.WAL.End.String()[2:] + sum([]byte(p.Target + fmt.Sprint(p.Tablespaces)))[:6])
	f := recovery.NewFetcher(p, b.fetcher(), nil)
	size := wal.MinSegmentSize
	for start := size.Start(p.WAL.Base.Start); start < p.Through; start += wal.LSN(size) {
		name := size.Name(wal.Segment{Timeline: 1, Start: start})
		out, err := os.Create(filepath.Join(dir, name))
		if err == nil {
			err = errors.Join(f.Fetch(b.t.Context(), name, out), out.Close(), os.Chmod(out.Name(), 0o644))
		}
		if err != nil {
			b.t.Fatalf("serve %s: %v", name, err)
		}
	}
	return "test -f " + dir + "/%f && cp " + dir + "/%f %p"
}

func (b *bench) options(backup *pgmedic.Backup, p *recovery.Plan, dir string) cluster.Options {
	b.t.Helper()
	return cluster.Options{
		Source: physical.Source{Store: b.store, Backup: backup}, Plan: p, Dir: dir, Owner: b.user(), RestoreCommand: b.serve(p), Jobs: 2,
	}
}

// recovered has PostgreSQL recover a folder and open it, and returns a session with it.
func (b *bench) recovered(dir string, p *recovery.Plan) *pgx.Conn {
	b.t.Helper()
	b.port++
	port := 6000 + b.port // of a socket in a folder of the test's own
	r, err := cluster.Start(b.t.Context(), cluster.StartOptions{Dir: dir, Plan: p, BinDir: b.server.BinDir(), Owner: b.user(), Environ: os.Environ(), Port: port})
	if r != nil && r.PID > 0 {
		b.t.Cleanup(func() { stop(b.t, r.PID) })
	}
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "pgmedic-recovery.log"))
		b.t.Fatalf("start: %v (%s)\n%s", err, pgmedic.HintOf(err), log)
	}
	return postgrestest.Connect(b.t, postgrestest.Parse(b.t, fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable", b.server.SocketDir(), port)))
}
