package physical

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/byhand"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// byHand is a backup without files, and WAL whose content does not matter, for its script.
type byHand struct {
	t           *testing.T
	folder, wal string
}

const handSegment = 1 << 20

func newByHand(t *testing.T) *byHand {
	t.Helper()
	b := &byHand{t: t, folder: t.TempDir(), wal: t.TempDir()}
	m := &pgmedic.Backup{
		ID: "20261129T120000Z-7f3a9c", SnapshotAt: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC),
		Server: pgmedic.Server{SystemIdentifier: "4711", Version: "15.14", VersionNum: 150014}, Seal: pgmedic.Seal{Compression: "none", Encryption: "none"},
		Objects: []pgmedic.Object{{Name: "files.ndjson", Role: pgmedic.RoleFiles}},
		// From segment 5 to segment 6.
		Physical: &pgmedic.Physical{Timeline: 1, StopTimeline: 1, StartLSN: "0/500028", StopLSN: "0/600100", WALSegmentBytes: handSegment},
	}
	var list bytes.Buffer
	w, err := NewWriter(&list, m)
	if err == nil {
		_, _, err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	v, err := newRecovery(m, false)
	if err != nil {
		t.Fatal(err)
	}
	script, err := byhand.Render(recoverScriptName, recoverScript, v)
	if err != nil {
		t.Fatal(err)
	}
	b.write(filepath.Join(b.folder, "files.ndjson"), list.String())
	b.write(filepath.Join(b.folder, recoverScriptName), script)
	return b
}

func (b *byHand) write(name, text string) {
	b.t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o700)
	if err == nil {
		err = os.WriteFile(name, []byte(text), 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// store stores objects of an epoch: segments as timeline/number, with another hash after =,
// tails as timeline/number:from-to, and histories.
func (b *byHand) store(epoch string, all ...string) {
	b.t.Helper()
	dir := filepath.Join(b.wal, epoch)
	for _, one := range all {
		var tli, n, from, to int
		hash := "0000000000000000"
		if name, other, ok := strings.Cut(one, "="); ok {
			one, hash = name, strings.Repeat(other, 16)
		}
		switch {
		case one == "epoch.json":
			b.write(filepath.Join(dir, one), "{}")
		case strings.HasPrefix(one, "history "):
			b.write(filepath.Join(dir, "hist", "00000002.history"), strings.TrimPrefix(one, "history "))
		case strings.Contains(one, ":"):
			if _, err := fmt.Sscanf(one, "%d/%d:%x-%x", &tli, &n, &from, &to); err != nil {
				b.t.Fatal(err)
			}
			b.write(filepath.Join(dir, "tail", b.name(tli, n), fmt.Sprintf("%08x-%08x-%s", from, to, hash)), strings.Repeat("x", to-from))
		default:
			if _, err := fmt.Sscanf(one, "%d/%d", &tli, &n); err != nil {
				b.t.Fatal(err)
			}
			b.write(filepath.Join(dir, "seg", b.name(tli, n)[:16], b.name(tli, n)+"-"+hash), fmt.Sprintf("%d/%d%s", tli, n, hash[:1]))
		}
	}
}

func (b *byHand) name(tli, n int) string { return fmt.Sprintf("%08X%08X%08X", tli, 0, n) }

// recover runs the script, and returns what it says, whether it ended well, and the names
// of the segments that the server gets.
func (b *byHand) recover(args ...string) (said string, ok bool, segments []string) {
	b.t.Helper()
	return b.recoverTo(filepath.Join(b.t.TempDir(), "data"), args...)
}

func (b *byHand) recoverTo(target string, args ...string) (said string, ok bool, segments []string) {
	b.t.Helper()
	args = append([]string{filepath.Join(b.folder, recoverScriptName), "--no-check", "--wal", b.wal}, append(args, target)...)
	cmd := exec.CommandContext(b.t.Context(), "bash", args...)
	out, err := cmd.CombinedOutput()
	found, globErr := filepath.Glob(filepath.Join(target, "pgmedic_wal", strings.Repeat("?", 24)))
	if globErr != nil {
		b.t.Fatal(globErr)
	}
	for _, f := range found {
		segments = append(segments, strings.TrimLeft(filepath.Base(f)[:8], "0")+"/"+strings.TrimLeft(filepath.Base(f)[8:], "0"))
	}
	if _, statErr := os.Stat(target); err != nil && statErr == nil {
		b.t.Errorf("it was refused, and %s is there: %s", target, out)
	}
	return string(out), err == nil, segments
}

// TestRecoverScriptGap: where WAL is missing before the end of what is stored PostgreSQL ends
// its recovery and says nothing. The script does, and restores nothing unless that is wanted.
func TestRecoverScriptGap(t *testing.T) {
	const left = "1\t0/880000\tno reason\n" // within segment 8
	for name, c := range testkit.Some(t, 4, map[string]struct {
		one, two []string // of two epochs
		says     string
		fatal    bool // whatever is wanted
		want     string
	}{
		"whole":                    {[]string{"1/4", "1/5", "1/6", "1/7"}, []string{"1/7", "1/8:0-80", "1/8:80-100"}, "", false, "1/5 1/6 1/7 1/8"},
		"a gap":                    {[]string{"1/5", "1/6", "1/7"}, []string{"1/9"}, b1(8) + " of the WAL is missing", false, "1/5 1/6 1/7"},
		"a tail and then a gap":    {[]string{"1/5", "1/6", "1/7:0-100"}, []string{"1/8"}, b1(7) + " of the WAL is missing", false, "1/5 1/6 1/7"},
		"a tail with a hole":       {[]string{"1/5", "1/6", "1/7:0-100", "1/7:180-200"}, nil, b1(7) + " of the WAL is missing", false, "1/5 1/6 1/7"},
		"tails that are a segment": {[]string{"1/5", "1/6", "1/7:0-80000"}, []string{"1/7:80000-100000", "1/8"}, "", false, "1/5 1/6 1/7 1/8"},
		"of the backup itself":     {[]string{"1/5", "1/7"}, nil, b1(6) + " of the WAL is missing", true, ""},
		"too short":                {[]string{"1/5"}, nil, "does not reach the end of the backup", true, ""},
		"two servers":              {[]string{"1/5", "1/6", "1/7", "1/8"}, []string{"1/7=a"}, b1(7) + " of the WAL is stored twice", false, "1/5 1/6"},
		"the same twice":           {[]string{"1/5", "1/6", "1/7"}, []string{"1/7", "1/8"}, "", false, "1/5 1/6 1/7 1/8"},
		"another timeline":         {[]string{"1/5", "1/6", "1/7", "1/8:0-80000"}, []string{"history " + left, "2/8", "2/9"}, "", false, "1/5 1/6 1/7 1/8 2/8 2/9"},
		"it was left behind":       {[]string{"1/5", "1/6", "1/7", "1/8", "1/9", "1/11"}, []string{"history " + left, "2/8"}, "", false, "1/5 1/6 1/7 1/8 1/9 1/B 2/8"},
		"a gap where it begins":    {[]string{"1/5", "1/6", "1/7", "1/8"}, []string{"history " + left, "2/9"}, "segment 000000020000000000000008 of the WAL is missing", false, "1/5 1/6 1/7 1/8"},
		"a gap before it":          {[]string{"1/5", "1/6", "1/8:0-80000"}, []string{"history " + left, "2/8", "2/9"}, b1(7) + " of the WAL is missing", false, "1/5 1/6"},
		"nothing is stored of it":  {[]string{"1/5", "1/6", "1/7"}, []string{"history " + left}, "", false, "1/5 1/6 1/7"},
		// Timeline 2 parted from 1 before the backup began: a copy that was promoted, say.
		"one that is not of it":     {[]string{"1/5", "1/6", "1/7", "1/8:0-80"}, []string{"history 1\t0/400000\tno reason\n", "2/4", "2/5", "2/6"}, "", false, "1/5 1/6 1/7 1/8 2/5 2/6"},
		"one that parted within it": {[]string{"1/5", "1/6", "1/7"}, []string{"history 1\t0/600080\tno reason\n", "2/6", "2/7"}, "", false, "1/5 1/6 1/7 2/6 2/7"},
		// Segments that no recovery of this backup reads hide none that it does.
		"two servers, twice": {[]string{"1/3", "1/5", "1/6", "1/7", "1/8"}, []string{"1/3=b", "1/7=a"}, b1(7) + " of the WAL is stored twice", false, "1/5 1/6"},
	}) {
		t.Run(name, func(t *testing.T) {
			b := newByHand(t)
			b.store("20261129T000000Z-000001", append(c.one, "epoch.json")...)
			b.store("20261130T000000Z-000002", append(c.two, "epoch.json")...)
			said, ok, got := b.recover()
			if c.says == "" {
				if want := strings.Fields(c.want); !ok || fmt.Sprint(got) != fmt.Sprint(want) || strings.Contains(said, "missing") {
					t.Errorf("segments %v, want %v: %s", got, want, said)
				}
				return
			}
			if ok || !strings.Contains(said, c.says) || len(got) > 0 {
				t.Errorf("ended well: %t, %v: %s", ok, got, said)
			}
			said, ok, got = b.recover("--until-gap")
			if ok == c.fatal || !strings.Contains(said, c.says) || ok && !strings.Contains(said, "ends before the end of what is stored") {
				t.Errorf("with --until-gap ended well: %t: %s", ok, said)
			}
			if want := strings.Fields(c.want); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("with --until-gap: segments %v, want %v", got, want)
			}
		})
	}
}

func b1(n int) string { return fmt.Sprintf("segment 0000000100000000%08X", n) }

// TestRecoverScriptTimeline: the server is told the newest timeline that came from the backup,
// where it would look for another and refuse that.
func TestRecoverScriptTimeline(t *testing.T) {
	for position, want := range map[string]string{"0/400000": "1", "0/600080": "1", "0/600100": "latest", "0/880000": "latest"} {
		b := newByHand(t)
		b.store("20261129T000000Z-000001", "1/5", "1/6", "1/7", "1/8", "2/6", "2/7", "2/8", "history 1\t"+position+"\tno reason\n", "epoch.json")
		target := filepath.Join(t.TempDir(), "data")
		said, ok, _ := b.recoverTo(target)
		conf, err := os.ReadFile(filepath.Join(target, "postgresql.auto.conf"))
		if err != nil || !ok || !strings.Contains(string(conf), "recovery_target_timeline = '"+want+"'\n") || !strings.Contains(string(conf), "restore_command = 'cp pgmedic_wal/%f %p'\n") {
			t.Errorf("parted at %s: ended well: %t, %v: %s\n%s", position, ok, err, said, conf)
		}
		// No commit waits, and nothing is taken from the publishers of subscriptions.
		if !strings.Contains(string(conf), "synchronous_standby_names = ''\n") || !strings.HasSuffix(string(conf), "max_logical_replication_workers = '0'\n") || strings.Contains(string(conf), "synchronized_standby_slots") ||
			!strings.Contains(said, "synchronous_standby_names is empty") || !strings.Contains(said, "RESET max_logical_replication_workers") {
			t.Errorf("settings: %s\n%s", said, conf)
		}
	}
}

// TestRecoverScriptEpoch: WAL of an epoch of which it is not known what it is can't be used,
// which is said.
func TestRecoverScriptEpoch(t *testing.T) {
	b := newByHand(t)
	b.store("20261129T000000Z-000001", "1/5", "1/6", "1/7", "epoch.json")
	b.store("20261130T000000Z-000002", "1/8")
	if said, ok, _ := b.recover(); ok || !strings.Contains(said, "no epoch.json") {
		t.Errorf("ended well: %t: %s", ok, said)
	}
	if said, ok, got := b.recover("--until-gap"); !ok || fmt.Sprint(got) != "[1/5 1/6 1/7]" || !strings.Contains(said, "ends before the end of what is stored") {
		t.Errorf("with --until-gap ended well: %t, %v: %s", ok, got, said)
	}
	// What such an epoch has is there elsewhere, or is not needed.
	b.store("20261130T000000Z-000002", "1/3", "1/7")
	b.store("20261130T000000Z-000003", "1/8", "epoch.json")
	if said, ok, got := b.recover(); !ok || fmt.Sprint(got) != "[1/5 1/6 1/7 1/8]" {
		t.Errorf("not needed: ended well: %t, %v: %s", ok, got, said)
	}
	// No name of an object is a command.
	b.write(filepath.Join(b.wal, "20261130T000000Z-000003", "seg", "x", "00000001x[$(touch "+filepath.Base(b.folder)+")]-0000"), "x")
	b.write(filepath.Join(b.wal, "20261130T000000Z-000003", "tail", "000000010000000000000009", "a[$(touch t)]-8-0000"), "x")
	if said, ok, got := b.recover(); !ok || fmt.Sprint(got) != "[1/5 1/6 1/7 1/8]" || strings.Contains(said, "syntax") {
		t.Errorf("odd names: ended well: %t, %v: %s", ok, got, said)
	}
	if out, err := exec.CommandContext(t.Context(), "bash", filepath.Join(b.folder, recoverScriptName), "--until-gap", t.TempDir()).CombinedOutput(); err == nil {
		t.Errorf("--until-gap without WAL: %s", out)
	}
	if program, err := exec.LookPath("shellcheck"); err == nil {
		if out, err := exec.CommandContext(t.Context(), program, filepath.Join(b.folder, recoverScriptName)).CombinedOutput(); err != nil {
			t.Errorf("shellcheck: %v\n%s", err, out)
		}
	}
}
