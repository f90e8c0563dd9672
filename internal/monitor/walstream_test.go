package monitor_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// TestWALStream: pgmedic's own stream of WAL replays nothing, so that it is judged by what
// is not stored, and is not a standby.
func TestWALStream(t *testing.T) {
	for _, c := range []struct {
		application       string
		flushed, replayed int64
		lag               float64
		want              pgmedic.Severity
		object            string
	}{
		{"pgmedic wal", 1 << 20, 1 << 50, 1e6, "", ""},
		{"pgmedic wal", 1 << 50, 0, 0, pgmedic.SeverityCritical, `WAL stream "pgmedic wal"`},
		{"replica", 1 << 20, 1 << 50, 1e6, pgmedic.SeverityCritical, "standby replica"},
	} {
		r := aReading(func(r *reading.Reading) {
			r.Replication = &reading.Replication{Standbys: []reading.Standby{{
				Application: c.application, State: "streaming", FlushLagBytes: &c.flushed, ReplayLagBytes: &c.replayed, ReplayLagSeconds: &c.lag,
			}}}
		})
		var got pgmedic.Finding
		for _, f := range analyse(r) {
			if f.ID == "standby-lagging" {
				got = f
			}
		}
		if got.Severity != c.want || got.Object != c.object {
			t.Errorf("%s: %q of %q", c.application, got.Severity, got.Object)
		}
		if n := len(r.Replication.Physical()); (n == 0) != (c.application == "pgmedic wal") {
			t.Errorf("%s: %d physical standbys", c.application, n)
		}
	}
}
