package walstream_test

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walstream"
)

// either is a target that is whichever of two servers takes writes.
func either(t *testing.T, a, b *scratch.Server) postgres.Target {
	first, second := postgrestest.Parse(t, a.DSN("postgres")), postgrestest.Parse(t, b.DSN("postgres"))
	join := func(keyword string) string { return first.Value(keyword) + "," + second.Value(keyword) }
	return first.With("host", join("host")).With("port", join("port")).With("user", "streamer").With("target_session_attrs", "read-write")
}

// TestFailover: a standby that is behind its primary is promoted, and the primary is gone.
// The stream goes on with it, and says exactly which transactions were lost, once; a reader
// of the store finds the same; and those of aborted transactions are not among them.
func TestFailover(t *testing.T) {
	testkit.OnlyAll(t, "two servers for each version")
	t.Parallel()
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			cases := []int{3, 1, 0}
			if major != 15 { // how many are lost does not depend on the version, only how WAL says it
				cases = cases[:testkit.Amount(1, 1, len(cases))]
			}
			for _, lost := range cases {
				t.Run(strconv.Itoa(lost), func(t *testing.T) { failover(t, major, lost) })
			}
		})
	}
}

func failover(t *testing.T, major, lost int) {
	b := newBench(t, major, map[string]string{"hot_standby": "on"})
	standby := scratchtest.NewStandby(t, b.server, scratch.StandbyOptions{})
	b.run("CREATE TABLE public.ledger (n int)", "INSERT INTO public.ledger VALUES (0)")
	logs := &journal{}
	defer func() {
		if t.Failed() {
			t.Log(logs.b.String())
		}
	}()
	stop := b.stream(either(t, b.server, standby.Server), logs)
	// More than a segment, so that the fork is in one that the stream began with.
	b.wantStored(1, b.write(1500000))
	standby.CatchUp(t)
	standby.Promote(t) // what the primary writes now it does not get
	before := b.query("SELECT clock_timestamp()::text")
	b.run("BEGIN", "INSERT INTO public.ledger VALUES (-1)", "ROLLBACK")
	for n := range lost {
		b.run(fmt.Sprintf("INSERT INTO public.ledger VALUES (%d)", n+1))
	}
	b.run("BEGIN", "INSERT INTO public.ledger VALUES (-1)", "ROLLBACK")
	after := b.query("SELECT clock_timestamp()::text")
	b.run("CHECKPOINT")
	end, err := wal.ParseLSN(b.query("SELECT pg_current_wal_flush_lsn()::text"))
	if err != nil {
		t.Fatal(err)
	}
	b.wantStored(1, end)
	from, to := moment(t, before), moment(t, after)
	old := b.server
	if err := old.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	b.server = standby.Server
	b.wantStored(2, b.write(100))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	noticed := b.notices.of(walstream.NoticeFailover)
	want := fmt.Sprintf("failover lost %d transaction", lost)
	switch {
	case lost == 0:
		if len(noticed) != 0 || !logs.has("lost no transaction") {
			t.Errorf("without a lost transaction: %+v", noticed)
		}
	case len(noticed) != 1 || !strings.HasPrefix(noticed[0].Summary, want) || !strings.HasSuffix(noticed[0].Summary, "`restore --timeline 1` has them"):
		t.Errorf("noticed %+v, want %q", noticed, want)
	case !logs.has(want):
		t.Errorf("the log does not have %q", want)
	}
	// A stream that begins later says it no more, and one that never knew the branch neither.
	stop = b.stream(b.target2(standby.Server), io.Discard)
	b.wantStored(2, b.write(100))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if again := b.notices.of(walstream.NoticeFailover); len(again) != len(noticed) {
		t.Errorf("noticed again: %+v", again[len(noticed):])
	}
	branches := b.survey().Branches()
	if len(branches) != 1 || branches[0].Timeline != 1 || branches[0].Next != 2 || branches[0].To < end {
		t.Fatalf("branches %+v", branches)
	}
	f, err := b.archive().NewFetcher(t.Context(), func(context.Context, string, []archive.StoredWrap) (*seal.Key, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	found, read, err := f.Commits(t.Context(), branches[0], 1<<30)
	if err != nil || found.Count != lost || read != branches[0].To {
		t.Errorf("read %+v up to %v, %v; %d were lost", found, read, err, lost)
	}
	if lost > 0 && (found.First.Before(from) || found.Last.After(to) || found.Last.Before(found.First)) {
		t.Errorf("lost from %v to %v, and they committed between %v and %v", found.First, found.Last, from, to)
	}
}

// target2 is the streaming role's way to another server.
func (b *bench) target2(s *scratch.Server) postgres.Target {
	return postgrestest.Parse(b.t, s.DSN("postgres")).With("user", "streamer")
}

func moment(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05.999999-07", text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
