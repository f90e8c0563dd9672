package test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/signature"
)

// TestWALReported: to which moments a server can be recovered stands in lists, reports and
// metrics; what is missing for it is a finding.
func TestWALReported(t *testing.T) {
	b := newWALBench(t, 0)
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.wantStored() // it has begun
	b.sql("INSERT INTO ledger VALUES (1, 'x')")
	b.sql("SELECT pg_switch_wal()")
	b.wantStored()
	report := func() (state string, until *time.Time, findings []string) {
		t.Helper()
		var got struct {
			Reading struct {
				Recovery *struct {
					State string
					Until *time.Time
				} `json:"recovery_status"`
			}
			Findings []struct{ ID, Section string }
		}
		if err := json.Unmarshal([]byte(b.ok("report", "--json", "--section", "backups")), &got); err != nil || got.Reading.Recovery == nil {
			t.Fatalf("report %+v, %v", got, err)
		}
		for _, f := range got.Findings {
			if strings.HasPrefix(f.ID, "wal-") || strings.HasPrefix(f.ID, "base-") || f.ID == "moment-unproven" {
				findings = append(findings, f.ID)
			}
		}
		return got.Reading.Recovery.State, got.Reading.Recovery.Until, findings
	}
	if state, until, findings := report(); state != "ok" || until != nil || !slices.Equal(findings, []string{"base-backup-missing"}) {
		t.Errorf("without a base backup: %s, %v, %v", state, until, findings)
	}
	if out := b.ok("list"); !strings.Contains(out, "server clinic: no moment can be recovered from a base backup of this store; WAL ok: ") {
		t.Errorf("without a base backup: %s", out)
	}
	b.ok("backup", "--method", "physical", "--checkpoint", "fast")
	b.sql("INSERT INTO ledger VALUES (2, 'x')")
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	if r := stream.wait(time.Minute); r.code != 0 {
		t.Fatalf("stopped: %d, %s", r.code, r.stderr)
	}
	state, until, findings := report()
	if state != "ok" || until == nil || !slices.Equal(findings, []string{"moment-unproven"}) {
		t.Errorf("with a base backup: %s, %v, %v", state, until, findings)
	}
	if out := b.ok("list"); !strings.Contains(out, "server clinic: recoverable to any moment from 20") || !strings.Contains(out, " until 20") || !strings.Contains(strings.Join(strings.Fields(out), " "), "nothing proven yet by a drill") {
		t.Errorf("with a base backup: %s", out)
	}
	if out := b.ok("show", strings.TrimSpace(b.ok("list", "--quiet"))); !strings.Contains(out, "to any moment until 20") {
		t.Errorf("show: %s", out)
	}
	if out := b.ok("report", "--section", "backups"); !strings.Contains(out, "no moment proven yet") {
		t.Errorf("report: %s", out)
	}
	metrics := b.ok("report", "--format", "prometheus", "--section", "backups")
	for _, want := range []string{"pgmedic_wal_state{", `state="ok"`, "pgmedic_wal_gaps{", "pgmedic_wal_stored_lag_bytes{", "pgmedic_recoverable_from_timestamp_seconds{", "pgmedic_recoverable_until_timestamp_seconds{"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in %s", want, metrics)
		}
	}
	if strings.Contains(metrics, "pgmedic_proven_until_timestamp_seconds{") {
		t.Errorf("nothing is proven, and there is a time: %s", metrics)
	}
	// With the key the times are those of commits.
	env := b.env
	b.env = append(slices.Clone(b.reader), "DATABASE_URL="+b.server.URL("postgres"))
	if s := b.status(); s.State != "ok" || !s.CommitTimes || len(s.Windows) != 1 || len(s.Unlisted) != 0 || len(s.Problems) != 0 {
		t.Errorf("status with the key: %+v", s)
	}
	b.env = env
	if s := b.status(); s.State != "ok" || s.CommitTimes || len(s.Windows) != 1 || len(s.Problems) != 0 {
		t.Errorf("status without it: %+v", s)
	}

	// Neither a base backup that this host refuses nor one that was found bad is promised.
	const none = "no moment can be recovered from a base backup of this store"
	signer, err := signature.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	b.env = append(slices.Clone(b.reader), "PGMEDIC_TRUSTED_SIGNERS="+signer.Public().String())
	if out := b.ok("list"); !strings.Contains(out, none) {
		t.Errorf("nobody who is trusted signed it: %s", out)
	}
	b.env = b.reader
	if out := b.ok("list"); strings.Contains(out, none) {
		t.Errorf("with the key: %s", out)
	}
	chunks := storedFiles(t, b.store, "@cluster/"+strings.TrimSpace(b.ok("list", "--quiet"))+"/pack-")
	if len(chunks) == 0 {
		t.Fatalf("there is %v", storedFiles(t, b.store, "@cluster/"))
	}
	if err := os.Remove(chunks[0]); err != nil {
		t.Fatal(err)
	}
	if r := b.run("verify", "--all"); r.code == 0 {
		t.Errorf("verify without a chunk: %s", r.stdout)
	}
	if out := b.ok("list"); !strings.Contains(out, none) {
		t.Errorf("after it was found bad: %s", out)
	}
}
