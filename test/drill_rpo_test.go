package test

import (
	"encoding/json"
	"time"

	"github.com/pgmedic/pgmedic"
)

// recoverable is up to when wal status says that the only cluster can be recovered, and zero
// where that is not known.
func (b *walBench) recoverable() (until time.Time) {
	b.t.Helper()
	var got struct {
		Clusters []struct {
			Windows []struct{ Until struct{ Time time.Time } }
		}
	}
	r := b.asReader("wal", "status", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || len(got.Clusters) != 1 || len(got.Clusters[0].Windows) != 1 {
		b.t.Fatalf("wal status: exit code %d, %v, %s%s", r.code, err, r.stdout, r.stderr)
	}
	return got.Clusters[0].Windows[0].Until.Time
}

// wantRPO holds the RPO of a drill, which began in between, against the newest moment that
// can be recovered.
func (b *walBench) wantRPO(p *pgmedic.PITR, from, to time.Time) {
	b.t.Helper()
	until := b.recoverable()
	if until.IsZero() || p == nil || p.RPOSeconds == nil {
		b.t.Fatalf("recoverable until %v, and the receipt has %+v", until, p)
	}
	const rounded = 0.001 // a receipt has milliseconds
	rpo, least, most := *p.RPOSeconds, from.Sub(until).Seconds(), to.Sub(until).Seconds()
	if rpo < max(0, least)-rounded || rpo > most+rounded {
		b.t.Errorf("an RPO of %v s, and recoverable until %v: %v to %v s", rpo, until, least, most)
	}
}
