package cluster_test

import (
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestLog: how far a recovery got, and why it ended, with times and codes and without; what
// is not said counts for nothing.
func TestLog(t *testing.T) {
	p := &recovery.Plan{WAL: wal.Plan{Stop: wal.StopAtLSN, LSN: 0x5000028, End: 0x5000050, Base: wal.Base{Start: 0x3000028, Stop: 0x3000100}}}
	l := cluster.ReadLog("1796006400.123 00000 LOG:  redo done at 0/5000028 system usage: CPU\n1796006400.500 00000 LOG:  database system is ready to accept connections\n")
	if l.Redone != 0x5000028 || !l.RedoneAt.Equal(time.UnixMilli(1796006400123)) || !l.ReadyAt.Equal(time.UnixMilli(1796006400500)) || l.Compare(p) != nil {
		t.Errorf("%+v, %v", l, l.Compare(p))
	}
	l = cluster.ReadLog("LOG:  redo done at 0/5000028\n")
	if l.Redone != 0x5000028 || !l.RedoneAt.IsZero() || l.Compare(p) != nil {
		t.Errorf("without a prefix: %+v, %v", l, l.Compare(p))
	}
	for what, text := range map[string]string{
		"an earlier record": "LOG:  redo done at 0/5000000\n", "a later record": "LOG:  redo done at 0/5000050\n",
		"nothing replayed": "LOG:  redo is not required\n", "nothing said": "", "another prefix": "clinic LOG:  redo done at 0/5000028\n",
	} {
		if err := cluster.ReadLog(text).Compare(p); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("%s: %v", what, err)
		}
	}
	l = cluster.ReadLog("1796006400.123 58P01 FATAL:  could not access file \"library\": No such file or directory\n1796006400.124 XX000 PANIC:  later\n")
	if l.FatalCode != "58P01" || l.Why() != `could not access file "library": No such file or directory` {
		t.Errorf("%+v: %s", l, l.Why())
	}
	l = cluster.ReadLog("error: PostgreSQL asked for 000000010000000000000009\n1796006400.124 XX000 FATAL:  could not restore file\n")
	if l.Program == "" || l.Why() != l.Program {
		t.Errorf("%+v: %s", l, l.Why())
	}
}
