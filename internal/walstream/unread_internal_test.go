package walstream

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestUnreadableWAL: WAL that can't be read is stored all the same, which is said once, and
// what follows is read again from the next segment on: its base backup is noted, and its
// commits are known, but not those before.
func TestUnreadableWAL(t *testing.T) {
	server := scratchtest.New(t, scratch.Options{InitArgs: []string{"--wal-segsize=1"}, Settings: map[string]string{"wal_level": "replica", "autovacuum": "off"}})
	conn := postgrestest.Connect(t, postgrestest.Parse(t, server.DSN("postgres")))
	begin, end := "pg_backup_start", "pg_backup_stop"
	if server.Major() < 15 {
		begin, end = "pg_start_backup", "pg_stop_backup"
	}
	postgrestest.Run(t, conn, "SELECT pg_switch_wal()", "SELECT "+begin+"('one', true)", "SELECT pg_logical_emit_message(true, 'x', 'y')")
	at, err := wal.ParseLSN(postgrestest.Query[string](t, conn, "SELECT pg_current_wal_insert_lsn()::text"))
	if err != nil {
		t.Fatal(err)
	}
	postgrestest.Run(t, conn, "SELECT "+end+"()", "SELECT pg_switch_wal()")
	const size = wal.MinSegmentSize
	start := size.Start(at)
	good, err := os.ReadFile(filepath.Join(server.DataDir(), "pg_wal", size.Name(wal.Segment{Timeline: 1, Start: start})))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var logs bytes.Buffer
	r, err := newRunner(Options{Slot: "ours", MaxDelay: time.Hour, Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	if err != nil {
		t.Fatal(err)
	}
	from := start - 2*wal.LSN(size)
	a := archive.New(s, "clinic", 1)
	if r.epoch, err = a.Begin(t.Context(), archive.EpochOptions{
		Info: archive.EpochInfo{StartedAt: time.Now(), SegmentBytes: int64(size), Timeline: 1, From: from}, Seal: seal.Options{Compression: seal.CompressionZstd},
	}); err != nil {
		t.Fatal(err)
	}
	r.commits.begin(1, from)
	p := &pump{r: r, size: size, epoch: r.epoch, tli: 1, free: make(chan []byte, 3), progress: NewProgress(from)}
	for range cap(p.free) {
		p.free <- nil
	}
	work := make(chan received, 3)
	for i, plain := range [][]byte{bytes.Repeat([]byte{0xA5}, int(size)), bytes.Repeat([]byte{0x5A}, int(size)), good} {
		work <- received{from + wal.LSN(i)*wal.LSN(size), plain}
	}
	close(work)
	if err := p.store(t.Context(), from, work); err != nil {
		t.Fatal(err)
	}
	survey, err := a.Survey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(survey.Spans) != 1 || survey.Spans[0].From != from || survey.Spans[0].To != start+wal.LSN(size) {
		t.Errorf("stored %+v, want all from %v", survey.Spans, from)
	}
	if len(survey.Bases) != 1 || survey.Bases[0].Start < start {
		t.Errorf("base backups %+v", survey.Bases)
	}
	if n := strings.Count(logs.String(), "WAL could not be read"); n != 1 {
		t.Errorf("it was said %d times:\n%s", n, logs.String())
	}
	if found, known := r.commits.within(wal.Branch{Timeline: 1, From: start, To: at}); !known || found.Count == 0 {
		t.Errorf("the commits of what could be read: %+v, %v", found, known)
	}
	if _, known := r.commits.within(wal.Branch{Timeline: 1, From: from, To: at}); known {
		t.Error("the commits of what could not be read are known")
	}
}
