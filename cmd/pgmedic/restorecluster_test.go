package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestShellQuote: a word is one word for the shell, whatever is in it.
func TestShellQuote(t *testing.T) {
	for _, word := range []string{"", "plain/path-1.2", "two words", "it's", `"quoted"`, "$HOME `id` $(id)", "a;b|c&d", "*", `back\slash`, "ümlaut", "%f"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+shellQuote(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q is %q for the shell, %v", word, out, err)
		}
	}
}

func TestClusterTarget(t *testing.T) {
	moment := time.Date(2026, 11, 29, 10, 41, 59, 120_000_000, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-11-29 10:41:59.12+00": moment, "2026-11-29 10:41:59.12Z": moment, "2026-11-29T11:41:59.12+01:00": moment, "2026-11-29 12:41:59.12+02": moment,
		"2026-11-29 10:41:59.12 UTC": moment, "2026-11-29 10:41:59.12 +00:00": moment, "2026-11-29 10:41:59Z": moment.Truncate(time.Second),
	} {
		got, err := clusterFlags{toTime: text, timeline: "latest"}.target(nil)
		if err != nil || !got.Time.Equal(want) || got.Kind != wal.TargetTime {
			t.Errorf("%s: %v, %v", text, got.Time, err)
		}
	}
	for _, text := range []string{"2026-11-29 10:41:59", "10:41", "yesterday", "2026-11-29 10:41:59 XYZ", "2026-13-29 10:41:59Z"} {
		if got, err := (clusterFlags{toTime: text, timeline: "latest"}).target(nil); pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	got, err := clusterFlags{toBackup: true, timeline: "3"}.target([]string{"20261129T020000Z-7f3a9c"})
	if err != nil || got.Kind != wal.TargetBackup || got.Timeline != 3 || got.Base != "20261129T020000Z-7f3a9c" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestClusterFlags: what is empty, as an unset variable of a script is, does not become the
// default, which is another moment.
func TestClusterFlags(t *testing.T) {
	check := func(args ...string) error {
		var f clusterFlags
		cmd := &cobra.Command{}
		addCluster(cmd, &f)
		if err := cmd.ParseFlags(append([]string{"--target-dir", "/srv/restored"}, args...)); err != nil {
			return err
		}
		return checkCluster(cmd.Flags(), f)
	}
	for _, arg := range []string{"--to-time=", "--to-lsn=", "--to-name=", "--to-end=false", "--to-backup=false", "--wal-dir="} {
		if err := check(arg); pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
			t.Errorf("%s: %v", arg, err)
		}
	}
	for _, arg := range []string{"--to-name=false", "--to-end", "--to-backup=true", "--to-lsn=0/1"} {
		if err := check(arg); err != nil {
			t.Errorf("%s: %v", arg, err)
		}
	}
	if got, err := (clusterFlags{timeline: "latest"}).target([]string{""}); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("an empty id: %+v, %v", got, err)
	}
}

// TestCheckEnd: the end of the stored WAL is not where WAL is missing before it.
func TestCheckEnd(t *testing.T) {
	const segment = wal.LSN(1 << 20)
	stored := wal.Stored{SegmentSize: wal.SegmentSize(segment), Spans: []wal.Span{{Timeline: 1, From: 2 * segment, To: 5 * segment}, {Timeline: 1, From: 6 * segment, To: 8 * segment}}}
	before := wal.Plan{Base: wal.Base{ID: "one", Timeline: 1, Start: 3 * segment, Stop: 4 * segment}, Timeline: 1, End: 5 * segment}
	err := checkEnd(stored, before, wal.Target{Kind: wal.TargetEnd})
	if pgmedic.KindOf(err) != pgmedic.KindNotFound || !strings.Contains(pgmedic.HintOf(err), "--to-lsn 0/500000") {
		t.Errorf("before the gap: %v (%s)", err, pgmedic.HintOf(err))
	}
	idle := before
	idle.End = idle.Base.Stop
	if err := checkEnd(stored, idle, wal.Target{Kind: wal.TargetEnd}); !strings.Contains(pgmedic.HintOf(err), "--to-backup") {
		t.Errorf("nothing behind the backup: %v (%s)", err, pgmedic.HintOf(err))
	}
	behind := wal.Plan{Base: wal.Base{Timeline: 1, Start: 6 * segment, Stop: 7 * segment}, Timeline: 1, End: 8 * segment}
	if err := checkEnd(stored, behind, wal.Target{Kind: wal.TargetEnd}); err != nil {
		t.Errorf("behind the gap: %v", err)
	}
	if err := checkEnd(stored, before, wal.Target{Kind: wal.TargetLSN, LSN: 5 * segment}); err != nil {
		t.Errorf("a position before the gap: %v", err)
	}
}
