package walstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// transaction is the end of one, as pg_waldump says it.
type transaction struct {
	lsn       wal.LSN
	at        time.Time
	committed bool
}

var dumped = regexp.MustCompile(`lsn: ([0-9A-F/]+), prev [0-9A-F/]+, desc: (COMMIT|ABORT|COMMIT_PREPARED|ABORT_PREPARED) (?:\d+: )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC`)

// waldump lists the transactions that ended in a range of a server's WAL.
func waldump(t *testing.T, binDir string, server *scratch.Server, from, to wal.LSN) (all []transaction) {
	t.Helper()
	dump := exec.CommandContext(t.Context(), filepath.Join(binDir, "pg_waldump"), "--rmgr=Transaction",
		"--path", filepath.Join(server.DataDir(), "pg_wal"), "--start", from.String(), "--end", to.String())
	dump.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	out, err := dump.CombinedOutput()
	if err != nil {
		t.Fatalf("pg_waldump: %v\n%.500s", err, out)
	}
	for line := range bytes.Lines(out) {
		m := dumped.FindSubmatch(line)
		if m == nil {
			continue
		}
		lsn, err := wal.ParseLSN(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse("2006-01-02 15:04:05.999999", string(m[3]))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, transaction{lsn, at, strings.HasPrefix(string(m[2]), "COMMIT")})
	}
	return all
}

// storm has several sessions end transactions in every way at once, and make restore points.
func (b *bench) storm(rounds int, points bool) {
	b.t.Helper()
	var wg sync.WaitGroup
	for i := range 4 {
		conn := postgrestest.Connect(b.t, postgrestest.Parse(b.t, b.server.DSN("postgres")))
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 3))
			for n := range rounds {
				sql := fmt.Sprintf("INSERT INTO public.storm VALUES (%d, repeat('x', %d))", i, r.IntN(3000))
				switch r.IntN(8) {
				case 0:
					sql = "BEGIN; " + sql + "; ROLLBACK"
				case 1:
					id := fmt.Sprintf("'%d-%d-%d'", i, rounds, n)
					sql = "BEGIN; " + sql + "; PREPARE TRANSACTION " + id + "; COMMIT PREPARED " + id
				case 2:
					id := fmt.Sprintf("'%d-%d-%d'", i, rounds, n)
					sql = "BEGIN; " + sql + "; PREPARE TRANSACTION " + id + "; ROLLBACK PREPARED " + id
				case 3:
					if !points {
						continue
					}
					sql = fmt.Sprintf("SELECT pg_create_restore_point('%s')", strings.Repeat("p", 62)+string(rune('a'+i)))
				}
				for statement := range strings.SplitSeq(sql, "; ") { // some are refused with others
					if _, err := conn.PgConn().Exec(context.WithoutCancel(b.t.Context()), statement).ReadAll(); err != nil {
						b.t.Errorf("%.60s: %v", statement, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestPlans: of 200 times, each at random, at a commit or a microsecond beside one, the
// plan names the transaction that pg_waldump shows to be the last.
func TestPlans(t *testing.T) {
	rounds := testkit.Amount(10, 50, 50)
	scratchtest.EachComplete(t, func(t *testing.T, installation scratch.Installation) {
		b := newBench(t, installation.Major, map[string]string{"max_prepared_transactions": "10"})
		b.run("SELECT pg_create_physical_replication_slot('keep', true)", "CREATE TABLE public.storm (n int, x text)")
		stop := b.stream(b.target, io.Discard)
		testkit.Eventually(t, time.Minute, "the stream has begun", func() bool {
			return b.query("SELECT count(*)::text FROM pg_stat_replication WHERE state = 'streaming'") == "1"
		})
		b.storm(rounds, true)
		b.run("SELECT " + startBackup(b.server.Major()) + "('one', true)")
		b.storm(rounds/2, false)
		b.run("SELECT " + stopBackup(b.server.Major()) + "()")
		b.storm(6*rounds, true)
		b.run("SELECT pg_switch_wal()")
		b.storm(2*rounds, true)
		end := b.write(100)
		b.wantStored(1, end)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		s := b.survey()
		if len(s.Bases) != 1 {
			t.Fatalf("base backups %+v", s.Bases)
		}
		base := s.Bases[0]
		ended := waldump(t, installation.BinDir, b.server, base.Start, end)
		f, err := b.archive().NewFetcher(t.Context(), func(context.Context, string, []archive.StoredWrap) (*seal.Key, error) { return nil, nil })
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(uint64(installation.Major), 5))
		first, last, reached := ended[0].at, ended[len(ended)-1].at, 0
		for i := range 200 {
			at := first.Add(time.Duration(r.Int64N(int64(last.Sub(first)))))
			if i%4 > 0 {
				at = ended[r.IntN(len(ended))].at.Add(time.Duration(i%4-2) * time.Microsecond)
			}
			at = at.Truncate(time.Microsecond)
			n := slices.IndexFunc(ended, func(x transaction) bool { return x.at.After(at) })
			if n < 0 {
				n = len(ended)
			}
			p, err := f.Plan(t.Context(), s, s.Bases, wal.Target{Kind: wal.TargetTime, Time: at})
			var outside *wal.OutsideError
			if errors.As(err, &outside) {
				if n > 0 && ended[n-1].lsn >= base.Stop && (n < len(ended) || !at.After(last)) {
					t.Errorf("%v: %v, and %+v is the last", at, err, ended[n-1])
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			reached++
			commits := slices.DeleteFunc(slices.Clone(ended[:n]), func(x transaction) bool { return !x.committed })
			if n == 0 || p.Stop == wal.StopAtLSN && p.LSN != ended[n-1].lsn || p.Commits != len(commits) || p.Last == nil || p.Last.LSN != commits[len(commits)-1].lsn ||
				!p.Last.Time.Equal(commits[len(commits)-1].at) || (p.Next == nil) != (n == len(ended)) || p.Next != nil && p.Next.LSN != ended[n].lsn {
				t.Errorf("%v: %+v, last %+v, next %+v; %d of %d had ended, %d commits", at, p, p.Last, p.Next, n, len(ended), len(commits))
			}
		}
		if reached < 120 {
			t.Errorf("%d of 200 were reached", reached)
		}
		// The first of several restore points, whose name has as many bytes as one can have.
		p, err := f.Plan(t.Context(), s, s.Bases, wal.Target{Kind: wal.TargetName, Name: strings.Repeat("p", 62) + "a"})
		if err != nil || p.Stop != wal.StopAtLSN || p.LSN < base.Stop || len(p.Others) == 0 || p.Others[0].LSN <= p.LSN {
			t.Errorf("a restore point: %+v, %v", p, err)
		}
		if _, known := f.NewIndex(s).Summary(t.Context(), size.Segment(1, base.Stop)); !known {
			t.Error("the index does not know the segment in which the base backup ended")
		}
		// After the last commit, on a server that does nothing.
		if p, err := f.Plan(t.Context(), s, s.Bases, wal.Target{Kind: wal.TargetTime, Time: last}); err != nil || p.Next != nil {
			t.Errorf("at the last commit: %+v, %v", p, err)
		}
	})
}
