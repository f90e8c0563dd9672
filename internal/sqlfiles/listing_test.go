package sqlfiles

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/pgdata"
)

// TestTaken: what basebackup.c leaves out is left out, and nothing else.
func TestTaken(t *testing.T) {
	const version = "PG_15_202209061"
	spaces := []Tablespace{{OID: 16400, Location: "/srv/a"}}
	for dir, c := range map[string]struct{ names, want string }{
		".": {"PG_VERSION backup_label backup_manifest base/ global/ pg_wal/ pgsql_tmp/ postmaster.opts postmaster.pid postgresql.auto.conf postgresql.auto.conf.tmp postgresql.conf tablespace_map .s.PGSQL.5432 .s.PGSQL.5432.lock .DS_Store current_logfiles current_logfiles.tmp standby.signal",
			"PG_VERSION base/ global/ pg_wal/ postgresql.auto.conf postgresql.conf .s.PGSQL.5432.lock current_logfiles standby.signal"},
		"global": {"1260 1260_fsm pg_control pg_filenode.map pg_internal.init pg_internal.init.77 t3_5", "1260 1260_fsm pg_filenode.map t3_5"},
		"base/5": {"100 100.1 100_fsm 100_vm 200 200.1 200_fsm 200_init 200_vm 2000 PG_VERSION pg_filenode.map pg_internal.init t1_100 t1_100.1 t12_7_fsm t1_x u1_100 100_other",
			"100 100.1 100_fsm 100_vm 200_init 2000 PG_VERSION pg_filenode.map t1_x u1_100 100_other"},
		"base":                                  {"1/ 5/ pgsql_tmp/", "1/ 5/"},
		"pg_tblspc":                             {"16400/ 16500/ note", "16400/ note"},
		"pg_tblspc/16400":                       {"PG_14_202107181/ PG_15_202209061/ note", "PG_15_202209061/"},
		"pg_tblspc/16400/PG_15_202209061":       {"5/ pgsql_tmp/ t1_100", "5/ t1_100"},
		"pg_tblspc/16400/PG_15_202209061/5":     {"100 200 200_init t1_100", "100 200_init"},
		"pg_tblspc/16400/PG_15_202209061/5/sub": {"200 200_init t1_100", "200 200_init t1_100"},
		"pg_xact":                               {"0000 0001", "0000 0001"},
		"log":                                   {"postmaster.pid.old a.log", "postmaster.pid.old a.log"},
	} {
		var all []pgdata.Entry
		for name := range strings.FieldsSeq(c.names) {
			all = append(all, pgdata.Entry{Path: path.Join(dir, name), Folder: strings.HasSuffix(name, "/")})
		}
		var got []string
		for _, e := range taken(dir, all, version, spaces) {
			name := path.Base(e.Path)
			if e.Folder {
				name += "/"
			}
			got = append(got, name)
		}
		if want := strings.Fields(c.want); !slices.Equal(got, want) {
			t.Errorf("of %s are taken\n%q, want\n%q", dir, got, want)
		}
	}
	for folder, want := range map[string]bool{"pg_wal": true, "pg_replslot": true, "pg_stat_tmp": true, "pg_stat": false, "base/pg_wal": false, "pg_logical": false, "pg_xact": false, "pg_twophase": false} {
		if hollow(folder) != want {
			t.Errorf("what %s holds is left out: %t", folder, !want)
		}
	}
}

// TestMapped reads the OIDs of a tablespace_map as the server writes it.
func TestMapped(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "16400 /srv/a\n": "16400", "16401 /srv/b\n16400 /srv/a\n": "16400 16401", "16400 /srv/a b\\\n16402 c\n16401 /x\\\\\n": "16400 16401",
	} {
		if got := strings.Join(mapped(text), " "); got != want {
			t.Errorf("%q has %q, want %q", text, got, want)
		}
	}
}

// TestUnchanged: over random histories of a file, whose times have the worst resolution that a
// file system can have, what is called unchanged is unchanged.
func TestUnchanged(t *testing.T) {
	unchanged := 0
	for seed := range uint64(20000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		resolution := int64(1000 * (1 + rng.IntN(2))) // of the file system, in milliseconds
		clock := int64(1_000_000) + rng.Int64N(5000)
		written, content := clock, 0
		// The kernel's clock for files is late.
		stamp := func() int64 { return max(written-10, 0) / resolution * resolution / 1000 }
		step := func() {
			for range rng.IntN(3) {
				clock += rng.Int64N(1500)
				if rng.IntN(2) == 0 {
					written, content = clock, content+1
				}
			}
		}
		step()
		clock += rng.Int64N(9000)
		begun := clock / 1000
		step() // before its folder is listed
		first := stamp()
		step() // while it is read
		read := content
		step()
		if stamp() != first || !Unchanged(first, first, begun) {
			continue
		}
		unchanged++
		if content != read {
			t.Fatalf("seed %d: it was written at %d, the backup began at %d, and it is called unchanged", seed, written, begun)
		}
	}
	if unchanged < 500 {
		t.Errorf("%d of the files are called unchanged", unchanged)
	}
	if Unchanged(5, 8, 10) || Unchanged(8, 5, 10) || !Unchanged(7, 7, 10) {
		t.Error("the later of the times decides, and three seconds before the backup")
	}
}

// TestSameClock: the times of files are those of the server's clock where pg_control has one of
// when it was written, and where that clock was not set back to before the server's start, of
// which no backup could say when it began.
func TestSameClock(t *testing.T) {
	before := time.Date(2026, 1, 2, 3, 4, 5, 600e6, time.UTC)
	second := before.Truncate(time.Second)
	for name, c := range map[string]struct {
		started, written, now time.Time
		want                  bool
	}{
		"as it should be":       {before.Add(-time.Hour), second, before.Add(time.Second), true},
		"late by a second":      {before.Add(-time.Hour), second.Add(-time.Second), before.Add(time.Second), true},
		"of another clock":      {before.Add(-time.Hour), second.Add(-2 * time.Second), before.Add(time.Second), false},
		"in the future":         {before.Add(-time.Hour), second.Add(5 * time.Second), before.Add(time.Second), false},
		"long ago":              {before.Add(-time.Hour), second, before.Add(time.Minute), false},
		"before the start":      {before.Add(time.Minute), second, before.Add(time.Second), false},
		"at that of the server": {before, second, before.Add(time.Second), false},
	} {
		if got := sameClock(c.started, before, c.written, c.now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestArrivals: of a file that is gone before it was read nothing arrives, of one that is gone later
// the rest is zero, and what follows is as it was.
func TestArrivals(t *testing.T) {
	entry := func(path string, size int64) pgdata.Entry { return pgdata.Entry{Path: path, SizeBytes: size} }
	batches := make(chan *batch, 4)
	for _, b := range []*batch{
		{reads: []read{{entry: entry("gone", 6), bytes: 3}, {entry: entry("gone", 6), offset: 3, bytes: 3}}, plain: [][]byte{nil, nil}},
		{reads: []read{{entry: entry("later", 9), bytes: 3}, {entry: entry("later", 9), offset: 3, bytes: 3}}, plain: [][]byte{[]byte("abc"), nil}},
		{reads: []read{{entry: entry("later", 9), offset: 6, bytes: 3}, {entry: entry("kept", 7), kept: true}}, plain: [][]byte{[]byte("ghi"), {}}},
		{reads: []read{{entry: entry("small", 2), bytes: 100, toEnd: true}, {entry: entry("empty", 0)}}, plain: [][]byte{[]byte("more"), {}}},
	} {
		b.done = make(chan struct{})
		close(b.done)
		batches <- b
	}
	close(batches)
	var got []string
	err := (&arrivals{ctx: t.Context(), order: batches}).visit(Visit{
		File: func(e pgdata.Entry, content io.Reader) error {
			text, err := io.ReadAll(content)
			if int64(len(text)) != e.SizeBytes {
				t.Errorf("%s has %d bytes, and %d are said", e.Path, len(text), e.SizeBytes)
			}
			got = append(got, e.Path+"="+string(bytes.ReplaceAll(text, []byte{0}, []byte("0"))))
			return err
		},
		Kept: func(e pgdata.Entry) error { got = append(got, e.Path+" kept"); return nil },
	})
	if want := "later=abc000ghi kept kept small=more empty="; err != nil || strings.Join(got, " ") != want {
		t.Errorf("%q, want %q, %v", got, want, err)
	}
	// One whose parts are not of one file.
	batches = make(chan *batch, 1)
	b := &batch{reads: []read{{entry: entry("a", 6), bytes: 3}, {entry: entry("b", 6), offset: 3, bytes: 3}}, plain: [][]byte{[]byte("abc"), []byte("def")}, done: make(chan struct{})}
	close(b.done)
	batches <- b
	close(batches)
	err = (&arrivals{ctx: t.Context(), order: batches}).visit(Visit{File: func(_ pgdata.Entry, content io.Reader) error {
		_, err := io.Copy(io.Discard, content)
		return err
	}})
	if err == nil {
		t.Error("parts of two files are taken for one")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrNoProgress)
	if err := (&arrivals{ctx: ctx, order: make(chan *batch)}).visit(Visit{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("where the run has ended: %v", err)
	}
}
