package monitor_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var update = flag.Bool("update", false, "write the findings of the recorded readings anew")

// readings are recorded by TestRecordReadings, of servers that much is wrong
// with; beside each are the findings.
const readings = "testdata/readings"

// goldenThresholds are lines that a server of some seconds' age can cross.
func goldenThresholds() reading.Thresholds {
	l := reading.DefaultThresholds()
	l.IdleInTransaction, l.LongTransaction, l.PreparedTransaction = time.Millisecond, time.Millisecond, time.Millisecond
	l.LockWaitWarn, l.LockWaitCritical = time.Millisecond, 5*time.Second
	l.BloatMinBytes, l.UnusedIndexAge, l.UnusedIndexBytes = 256<<10, 0, 0
	l.SlowStatement, l.StatementsMinTime, l.StatementSharePercent = 10*time.Millisecond, 0, 40
	l.RollbackMin, l.TempBytes, l.HeldBackTransactions, l.ArchiveBacklog = 10, 100<<10, 100, 0
	l.CheckpointsMin, l.LagWarnBytes, l.SlotRetainedBytes = 1, 64<<10, 64<<10
	return l
}

// TestRecordedReadings judges what servers of every version once looked like,
// without any of them.
func TestRecordedReadings(t *testing.T) {
	for major := 12; major <= 18; major++ {
		for _, role := range []string{"primary", "standby"} {
			name := fmt.Sprintf("%d-%s", major, role)
			t.Run(name, func(t *testing.T) {
				file, err := os.Open(filepath.Join(readings, name+".json"))
				if err != nil {
					t.Fatalf("%v: record it, see TestRecordReadings", err)
				}
				defer func() { _ = file.Close() }()
				r, err := reading.Decode(file)
				if err != nil {
					t.Fatal(err)
				}
				if r.Server.VersionNum/10000 != major || string(r.Server.Role) != role {
					t.Fatalf("it is of a %s of PostgreSQL %s", r.Server.Role, r.Server.Version)
				}
				findings := judge.Analyse(r, nil, goldenThresholds())
				got := inWords(r, findings)
				testkit.Golden(t, filepath.Join(readings, name+".findings.txt"), string(got), *update)
			})
		}
	}
}

// inWords writes findings for people who compare them.
func inWords(r *reading.Reading, findings []pgmedic.Finding) []byte {
	var b bytes.Buffer
	for _, f := range findings {
		fmt.Fprintf(&b, "%s %s: %s\n  %s\n", f.Severity, f.ID, f.Object, f.Summary)
		if f.Database != "" {
			fmt.Fprintf(&b, "  in %s\n", f.Database)
		}
		for _, e := range f.Evidence {
			fmt.Fprintf(&b, "  %s %s\n", e.Name, e.Value)
		}
		for line := range strings.SplitSeq(f.Fix, "\n") {
			if line != "" {
				fmt.Fprintf(&b, "  > %s\n", line)
			}
		}
		fmt.Fprintf(&b, "  %s\n\n", f.Risk)
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(&b, "skipped %s, %s: %s\n", s.Section, s.Query, s.Reason)
	}
	return b.Bytes()
}
