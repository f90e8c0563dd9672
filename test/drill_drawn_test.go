package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pitr"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// windows are the moments to which wal status says that the only cluster can be recovered.
func (b *walBench) windows() []wal.Window {
	b.t.Helper()
	var got struct {
		Clusters []struct{ Windows []wal.Window }
	}
	r := b.asReader("wal", "status", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || len(got.Clusters) != 1 {
		b.t.Fatalf("wal status: exit code %d, %v, %s%s", r.code, err, r.stdout, r.stderr)
	}
	return got.Clusters[0].Windows
}

// drillFork draws the first record of the timeline 2, whose history is in a data folder: the
// recovery ends with it, and has the rows of before. The text of a configuration has %s where
// they are.
func (b *walBench) drillFork(dir, config, text, rows string) {
	b.t.Helper()
	const name = "00000002.history"
	h, err := wal.ParseHistory(2, readFile(b.t, filepath.Join(dir, "pg_wal", name)))
	if err == nil {
		err = os.WriteFile(config, []byte(strings.Replace(text, "%s", rows, 1)), 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	fork, _ := h.Begin(2)
	o := pitr.DrawOptions{Windows: b.windows(), Histories: []wal.History{h}}
	for ; ; o.Seed++ {
		if d, err := pitr.Draw(o); err != nil || o.Seed > 10_000 {
			b.t.Fatalf("the fork at %v is not drawn from %+v: %v", fork, o.Windows, err)
		} else if d.Target.Kind == wal.TargetLSN && d.Target.LSN == fork {
			break
		}
	}
	r, stderr := b.drillMoment(0, "--config", config, "--at", "random", "--seed", pitr.SeedText(o.Seed))
	reached, err := wal.ParseLSN(r.PITR.ReachedLSN)
	const header = 40 // of the first page of a segment
	if err != nil || reached < fork || reached > fork+header || r.PITR.Timeline != 2 || r.Proof != pgmedic.ProofProven || r.PITR.Target != "position "+fork.String() {
		b.t.Errorf("the timelines part at %v: %+v, %v\n%s", fork, r.PITR, err, stderr)
	}
}

// wantRPO holds the RPO of a drill, which began in between, against the newest moment that
// can be recovered.
func (b *walBench) wantRPO(p *pgmedic.PITR, from, to time.Time) {
	b.t.Helper()
	windows := b.windows()
	if len(windows) != 1 {
		b.t.Fatalf("windows %+v", windows)
	}
	until := windows[0].Until.Time
	if until.IsZero() || p == nil || p.RPOSeconds == nil {
		b.t.Fatalf("recoverable until %v, and the receipt has %+v", until, p)
	}
	const rounded = 0.001 // a receipt has milliseconds
	rpo, least, most := *p.RPOSeconds, from.Sub(until).Seconds(), to.Sub(until).Seconds()
	if rpo < max(0, least)-rounded || rpo > most+rounded {
		b.t.Errorf("an RPO of %v s, and recoverable until %v: %v to %v s", rpo, until, least, most)
	}
}
