package drill

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestReplayed: a receipt does not claim the end of stored WAL of which it is not known what it
// holds, since PostgreSQL may have ended before it.
func TestReplayed(t *testing.T) {
	unread := []wal.Span{{Timeline: 1, From: 0x300, To: 0x900}}
	for name, tt := range map[string]struct {
		plan         wal.Plan
		redone       wal.LSN
		end, reached string
	}{
		"all is known":               {wal.Plan{Stop: wal.StopAtEnd, End: 0x900}, 0x800, "0/900", "0/800"},
		"the end is not known":       {wal.Plan{Stop: wal.StopAtEnd, End: 0x900, Unread: unread}, 0x400, "0/400", "0/400"},
		"nothing behind the backup":  {wal.Plan{Stop: wal.StopAtEnd, End: 0x900, Unread: unread}, 0x1f0, "0/200", "0/1F0"},
		"nothing at all":             {wal.Plan{Stop: wal.StopAtEnd, End: 0x900, Unread: unread}, 0, "0/200", ""},
		"a position, which is exact": {wal.Plan{Stop: wal.StopAtLSN, LSN: 0x280, End: 0x2a0, Unread: unread}, 0x280, "0/2A0", "0/280"},
	} {
		tt.plan.Base = wal.Base{Start: 0x100, Stop: 0x200}
		m := &moment{asked: MomentOptions{Plan: &recovery.Plan{WAL: tt.plan}}, record: &pgmedic.PITR{EndLSN: tt.plan.End.String()}}
		m.replayed(cluster.Log{Redone: tt.redone})
		if m.record.EndLSN != tt.end || m.record.ReachedLSN != tt.reached {
			t.Errorf("%s: up to %s, reached %q; want %s, %q", name, m.record.EndLSN, m.record.ReachedLSN, tt.end, tt.reached)
		}
	}
}
