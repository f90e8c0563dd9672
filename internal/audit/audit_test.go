package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/audit"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// clock is a time that a test sets.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// newLog returns a log in a folder of its own, with a clock.
func newLog(t *testing.T) (*audit.Log, *clock, audit.Options) {
	t.Helper()
	c := &clock{began()}
	dir := t.TempDir()
	o := audit.Options{Path: filepath.Join(dir, "audit.jsonl"), KeyPath: filepath.Join(dir, "audit.key"), Host: "db1", Version: "test", Now: c.now}
	return audit.New(o), c, o
}

func entry(action, outcome string) audit.Entry {
	e := audit.Entry{
		Actor: audit.Actor{Kind: "os", Name: "ana", UID: 1000}, Run: audit.NewRun(), Action: action, Object: "20261105T120000Z-7f3a9c", Outcome: outcome,
		Params: map[string]string{"database": "clinic", "server": "main"},
	}
	if outcome != audit.OutcomeIntended {
		exit := 0
		e.Exit = &exit
	}
	return e
}

func appendTo(t *testing.T, l *audit.Log, entries ...audit.Entry) (last audit.Record) {
	t.Helper()
	for _, e := range entries {
		var err error
		if last, err = l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

func verify(t *testing.T, l *audit.Log, o audit.VerifyOptions) *audit.Report {
	t.Helper()
	r, err := l.Verify(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func head(t *testing.T, l *audit.Log) pgmedic.AuditAnchor {
	t.Helper()
	a, begun, err := l.Head(t.Context(), "another run")
	if err != nil || !begun {
		t.Fatalf("begun %t: %v", begun, err)
	}
	return a
}

// anchoredBy is an anchor that was found in a manifest.
func anchoredBy(a pgmedic.AuditAnchor) audit.VerifyOptions {
	return audit.VerifyOptions{Anchors: []audit.FoundAnchor{{AuditAnchor: a, Where: "a manifest"}}}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustWrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLog(t *testing.T) {
	l, c, o := newLog(t)
	if _, begun, err := l.Head(t.Context(), "another run"); begun || err != nil {
		t.Errorf("a log that nothing was written to has a head: %v", err)
	}
	if _, err := l.Verify(t.Context(), audit.VerifyOptions{}); pgmedic.KindOf(err) != pgmedic.KindNotFound || err == nil {
		t.Errorf("verify of nothing: %v", err)
	}
	if names, err := os.ReadDir(filepath.Dir(o.Path)); err != nil || len(names) != 0 {
		t.Errorf("asking made %v (%v)", names, err)
	}
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	c.at = c.at.Add(time.Second)
	appendTo(t, l, entry("restore", "integrity"))
	var all []audit.Record
	r := verify(t, l, audit.VerifyOptions{Each: func(r audit.Record) error { all = append(all, r); return nil }})
	if !r.Intact() || r.Records != 3 || r.LastSeq != 3 || r.FirstSeq != 1 || r.AnchoredSeq != 0 || len(r.Unfinished) != 0 {
		t.Errorf("%+v", r)
	}
	got := all[2]
	want := audit.Record{
		Seq: 3, At: time.Date(2026, 11, 5, 12, 0, 1, 123456000, time.UTC), Host: "db1", PID: os.Getpid(), Action: "restore", Outcome: "integrity",
		Actor: audit.Actor{Kind: "os", Name: "ana", UID: 1000}, Object: "20261105T120000Z-7f3a9c", Params: map[string]string{"database": "clinic", "server": "main"},
		Prev: all[1].Hash, Hash: got.Hash, MAC: got.MAC, Run: got.Run, Exit: got.Exit,
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) || *got.Exit != 0 || all[0].Action != audit.ActionOpen {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
	for _, path := range []string{o.Path, o.KeyPath} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
	key := strings.Fields(string(mustRead(t, o.KeyPath)))[1]
	if strings.Contains(string(mustRead(t, o.Path)), key) {
		t.Error("the log has the key")
	}
}

// TestOddTexts: whatever a name holds is one line of the log, and is read back.
func TestOddTexts(t *testing.T) {
	l, _, o := newLog(t)
	e := entry("backup", audit.OutcomeDone)
	e.Object = "a\nb\x1b[31m\u202e\xff\"\\ <&> \u2028"
	e.Params = map[string]string{"long": strings.Repeat("é", 5000)}
	for i := range 100 {
		e.Params[strconv.Itoa(i)] = "x"
	}
	appendTo(t, l, e, entry("backup", audit.OutcomeDone))
	r := verify(t, l, audit.VerifyOptions{})
	if !r.Intact() || r.Records != 3 {
		t.Errorf("%+v", r)
	}
	text := mustRead(t, o.Path)
	if strings.Count(string(text), "\n") != 3 || strings.ContainsAny(string(text), "\x1b\u202e") || len(text) > 40<<10 {
		t.Errorf("%d bytes: %q", len(text), text)
	}
}

// tampering changes one thing in the lines of a log.
type tampering func(r *rand.Rand, lines []string) []string

func tamperings() map[string]tampering {
	return map[string]tampering{
		"change a byte": func(r *rand.Rand, lines []string) []string {
			i := r.IntN(len(lines))
			b := []byte(lines[i])
			b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
			lines[i] = string(b)
			return lines
		},
		"change a digit": func(r *rand.Rand, lines []string) []string {
			for {
				i := r.IntN(len(lines))
				j := r.IntN(len(lines[i]))
				if c := lines[i][j]; c >= '0' && c <= '9' {
					lines[i] = lines[i][:j] + string('0'+(c-'0'+byte(1+r.IntN(9)))%10) + lines[i][j+1:]
					return lines
				}
			}
		},
		"delete a record": func(r *rand.Rand, lines []string) []string {
			i := r.IntN(len(lines))
			return slices.Delete(lines, i, i+1)
		},
		"delete several": func(r *rand.Rand, lines []string) []string {
			i := r.IntN(len(lines))
			return slices.Delete(lines, i, i+1+r.IntN(len(lines)-i))
		},
		"insert a copy": func(r *rand.Rand, lines []string) []string {
			return slices.Insert(lines, r.IntN(len(lines)+1), lines[r.IntN(len(lines))])
		},
		"insert a line": func(r *rand.Rand, lines []string) []string {
			return slices.Insert(lines, r.IntN(len(lines)+1), []string{"", "{}", "x", `{"action":"backup"}`}[r.IntN(4)])
		},
		"swap two": func(r *rand.Rand, lines []string) []string {
			i := r.IntN(len(lines) - 1)
			j := i + 1 + r.IntN(len(lines)-i-1)
			lines[i], lines[j] = lines[j], lines[i]
			return lines
		},
		"cut the end": func(r *rand.Rand, lines []string) []string { return lines[:r.IntN(len(lines))] },
		"cut in a line": func(r *rand.Rand, lines []string) []string {
			i := r.IntN(len(lines))
			lines = lines[:i+1]
			lines[i] = lines[i][:r.IntN(len(lines[i]))]
			return lines
		},
		"cut the beginning": func(r *rand.Rand, lines []string) []string { return lines[1+r.IntN(len(lines)-1):] },
		"spaces": func(r *rand.Rand, lines []string) []string {
			i := r.IntN(len(lines))
			lines[i] = strings.Replace(lines[i], ":", ": ", 1)
			return lines
		},
		"a key twice": func(r *rand.Rand, lines []string) []string {
			i := r.IntN(len(lines))
			lines[i] = `{"action":"nothing",` + lines[i][1:]
			return lines
		},
	}
}

// TestTampering: of 5,000 single changes (a part in make test) each is found, by the chain or by an anchor of
// the last record. What is cut after the last anchor can't be found, and is not tried.
func TestTampering(t *testing.T) {
	l, c, o := newLog(t)
	for i := range 40 {
		c.at = c.at.Add(time.Minute)
		appendTo(t, l, entry([]string{"backup", "prune", "restore"}[i%3], []string{audit.OutcomeDone, audit.OutcomeIntended}[i%2]))
	}
	anchor := anchoredBy(head(t, l))
	whole := string(mustRead(t, o.Path))
	if r := verify(t, l, anchor); !r.Intact() || r.AnchoredSeq != r.LastSeq || r.Anchors != 1 {
		t.Fatalf("%+v", r)
	}
	random := rand.New(rand.NewPCG(7, 11))
	all := tamperings()
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range all {
			if !yield(name) {
				return
			}
		}
	})
	tried, most := 0, testkit.Amount(1500, 5000, 50000)
	for tried < most {
		name := names[tried%len(names)]
		lines := all[name](random, strings.Split(strings.TrimSuffix(whole, "\n"), "\n"))
		text := strings.Join(lines, "\n")
		if len(lines) > 0 && name != "cut in a line" {
			text += "\n"
		}
		if text == whole {
			continue
		}
		tried++
		mustWrite(t, o.Path, []byte(text))
		if r := verify(t, l, anchor); r.Intact() {
			t.Fatalf("%d, %s: not found in\n%s", tried, name, text)
		}
	}
	// The file is gone as a whole.
	if err := os.Remove(o.Path); err != nil {
		t.Fatal(err)
	}
	stored := audit.VerifyOptions{Anchors: []audit.FoundAnchor{{AuditAnchor: anchor.Anchors[0].AuditAnchor, Where: "s"}}}
	if r := verify(t, l, stored); r.Intact() {
		t.Error("a log that is gone is intact")
	}
}

// TestOtherKey: a log is checked with its own key alone, and never gets another.
func TestOtherKey(t *testing.T) {
	l, _, o := newLog(t)
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	other, _, oo := newLog(t)
	appendTo(t, other, entry("backup", audit.OutcomeDone))
	o.KeyPath = oo.KeyPath
	r := verify(t, audit.New(o), audit.VerifyOptions{})
	if r.Intact() || !strings.Contains(r.Problems[0].What, "another key") {
		t.Errorf("%+v", r)
	}
	if _, err := audit.New(o).Append(t.Context(), entry("backup", audit.OutcomeDone)); pgmedic.KindOf(err) != pgmedic.KindIntegrity || err == nil {
		t.Errorf("a record of another key was appended: %v", err)
	}
	// A log whose key is gone gets no new one.
	o.KeyPath = filepath.Join(t.TempDir(), "none.key")
	if _, err := audit.New(o).Append(t.Context(), entry("backup", audit.OutcomeDone)); pgmedic.KindOf(err) != pgmedic.KindUsage || err == nil {
		t.Errorf("without the key: %v", err)
	}
	if _, err := os.Stat(o.KeyPath); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made: %v", err)
	}
	mustWrite(t, o.KeyPath, []byte("nonsense\n"))
	if _, err := audit.ReadKey(o.KeyPath); pgmedic.KindOf(err) != pgmedic.KindUsage || err == nil {
		t.Errorf("nonsense is a key: %v", err)
	}
	if err := os.Chmod(oo.KeyPath, 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.ReadKey(oo.KeyPath); pgmedic.KindOf(err) != pgmedic.KindUsage || err == nil {
		t.Errorf("a key that anyone can read is used: %v", err)
	}
}

// TestAnchors: what each kind of anchor shows.
func TestAnchors(t *testing.T) {
	l, c, o := newLog(t)
	began := entry("backup", audit.OutcomeDone)
	appendTo(t, l, began)
	if _, fresh, err := l.Anchored(t.Context(), began.Run); err != nil || !fresh {
		t.Errorf("a log that this run began is not fresh: %v", err)
	}
	first := head(t, l)
	c.at = c.at.Add(time.Hour)
	if err := l.NoteAnchor(t.Context(), entry("", ""), "main", "file:///backups", first); err != nil {
		t.Fatal(err)
	}
	if at, fresh, err := l.Anchored(t.Context(), "another run"); err != nil || fresh || !at["main"].At.Equal(c.at.Truncate(time.Microsecond)) || !at["main"].Tried.IsZero() {
		t.Errorf("%v %v", at, err)
	}
	noted := c.at
	c.at = c.at.Add(time.Hour)
	if err := l.NoteUnanchored(t.Context(), entry("", ""), "main", pgmedic.KindUnreachable); err != nil {
		t.Fatal(err)
	}
	if at, _, err := l.Anchored(t.Context(), "another run"); err != nil || !at["main"].At.Equal(noted.Truncate(time.Microsecond)) || !at["main"].Tried.Equal(c.at.Truncate(time.Microsecond)) {
		t.Errorf("%v %v", at, err)
	}
	c.at = noted
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	stored := audit.StoredName{Place: "file:///backups", Log: first.Log, Seq: first.Seq}
	found := audit.FoundAnchor{AuditAnchor: first, Where: "main"}
	changed, cut, rewritten, other, replaced := found, found, found, found, found
	old, moved, elsewhere := found, found, found
	old.File = ""                      // the MAC is of a file
	moved.File = o.Path + ".elsewhere" // which it is as well
	elsewhere.Log, elsewhere.File = "0123456789abcdef", "/another/audit.jsonl"
	if byItself, begun, err := l.Head(t.Context(), began.Run); err != nil || !begun || byItself.File != "" || first.File != o.Path {
		t.Errorf("a log that the run itself began is anchored as one that stays: %+v, %v", byItself, err)
	} else {
		other.AuditAnchor = byItself
	}
	changed.Hash = strings.Repeat("0", 64)
	cut.Seq = 99
	other.Log, other.Host = "0123456789abcdef", "db2"
	replaced.Log = other.Log
	// Made with the key, of a record that the log does not have.
	l2, _, o2 := newLog(t)
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	mustWrite(t, o2.KeyPath, mustRead(t, o.KeyPath))
	mustWrite(t, o2.Path, mustRead(t, o.Path))
	appendTo(t, l2, entry("drill", audit.OutcomeDone))
	rewritten.AuditAnchor = head(t, l2)
	behind := rewritten
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	for name, test := range map[string]struct {
		o    audit.VerifyOptions
		want string
	}{
		"good":             {audit.VerifyOptions{Anchors: []audit.FoundAnchor{found}, Stored: []audit.StoredName{stored}, Stores: []string{"file:///backups"}}, ""},
		"unread":           {audit.VerifyOptions{}, ""},
		"other log":        {audit.VerifyOptions{Anchors: []audit.FoundAnchor{other}}, ""},
		"without its file": {audit.VerifyOptions{Anchors: []audit.FoundAnchor{old}}, "was changed"},
		"with another":     {audit.VerifyOptions{Anchors: []audit.FoundAnchor{moved}}, "was changed"},
		"another file":     {audit.VerifyOptions{Anchors: []audit.FoundAnchor{elsewhere}}, ""},
		"lost":             {audit.VerifyOptions{Stores: []string{"file:///backups"}}, "is gone"},
		"stored meanwhile": {audit.VerifyOptions{Stores: []string{"file:///backups"}, ReadAt: c.at.Add(-time.Second)}, ""},
		"changed":          {audit.VerifyOptions{Anchors: []audit.FoundAnchor{changed}}, "was changed"},
		"renumbered":       {audit.VerifyOptions{Anchors: []audit.FoundAnchor{cut}}, "was changed"},
		"replaced":         {audit.VerifyOptions{Anchors: []audit.FoundAnchor{replaced}}, "another log"},
		"rewritten":        {audit.VerifyOptions{Anchors: []audit.FoundAnchor{rewritten}}, "written again"},
	} {
		t.Run(name, func(t *testing.T) {
			r := verify(t, l, test.o)
			if test.want == "" && !r.Intact() || test.want != "" && (r.Intact() || !strings.Contains(r.Problems[0].What, test.want)) {
				t.Errorf("%+v", r)
			}
			if name == "good" && (r.AnchoredSeq != first.Seq || r.AnchoredIn != "main") || name == "other log" && r.Others != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
	// The log of before the anchored record.
	lines := strings.SplitAfter(string(mustRead(t, o2.Path)), "\n")
	mustWrite(t, o2.Path, []byte(strings.Join(lines[:len(lines)-2], "")))
	if r := verify(t, l2, audit.VerifyOptions{Anchors: []audit.FoundAnchor{behind}}); r.Intact() || !strings.Contains(r.Problems[0].What, "cut off") {
		t.Errorf("%+v", r)
	}
}

// TestUnfinished: an intent whose process did not come to the outcome is listed.
func TestUnfinished(t *testing.T) {
	l, _, _ := newLog(t)
	whole := entry("restore", audit.OutcomeIntended)
	appendTo(t, l, whole)
	killed := appendTo(t, l, entry("prune", audit.OutcomeIntended))
	exit := 11
	whole.Outcome, whole.Exit = "integrity", &exit
	appendTo(t, l, whole)
	if r := verify(t, l, audit.VerifyOptions{}); len(r.Unfinished) != 1 || r.Unfinished[0].Seq != killed.Seq {
		t.Errorf("%+v", r.Unfinished)
	}
}

// TestTorn: a line that its writer did not finish is closed by the next, and found again.
func TestTorn(t *testing.T) {
	l, _, o := newLog(t)
	appendTo(t, l, entry("backup", audit.OutcomeDone), entry("drill", audit.OutcomeDone))
	whole := mustRead(t, o.Path)
	last := strings.LastIndex(strings.TrimSuffix(string(whole), "\n"), "\n") + 1
	for _, cut := range []int{last + 1, last + 40, len(whole) - 2, len(whole) - 1} {
		mustWrite(t, o.Path, whole[:cut])
		r := verify(t, l, audit.VerifyOptions{})
		if complete := cut == len(whole)-1; !r.Intact() || r.TornEnd == complete || (r.LastSeq == 3) != complete {
			t.Errorf("cut at %d of %d: %+v", cut, len(whole), r)
		}
		appendTo(t, l, entry("verify", audit.OutcomeDone))
		r = verify(t, l, audit.VerifyOptions{})
		if want := len(whole) - 1 - cut; !r.Intact() || r.TornEnd || (r.Torn == 1) != (want > 0) || r.LastSeq != 4 {
			t.Errorf("cut at %d of %d, then appended: %+v", cut, len(whole), r)
		}
		// The torn line can't be changed any more.
		text := strings.Replace(string(mustRead(t, o.Path)), `{"action":"drill"`, `{"action":"thrill"`, 1)
		mustWrite(t, o.Path, []byte(text))
		if strings.Contains(text, "thrill") && verify(t, l, audit.VerifyOptions{}).Intact() {
			t.Errorf("cut at %d: a changed line is not found", cut)
		}
	}
}

// TestTornTwice: writers that were killed one after another, each at any byte, keep no later
// one from writing, and what they left is proven by one record.
func TestTornTwice(t *testing.T) {
	l, _, o := newLog(t)
	appendTo(t, l, entry("backup", audit.OutcomeDone), entry("drill", audit.OutcomeDone))
	whole := mustRead(t, o.Path)
	torn := slices.Clone(whole[:len(whole)-40])
	mustWrite(t, o.Path, torn)
	appendTo(t, l, entry("verify", audit.OutcomeDone))
	second := mustRead(t, o.Path)
	record := len(torn) + 1 + bytes.IndexByte(second[len(torn)+1:], '\n') // the end of the torn record
	for cut := len(torn) + 1; cut < len(second); cut += 1 + (cut-len(torn))%13 {
		mustWrite(t, o.Path, second[:cut])
		// A single newline after the torn line is not told from one that was added.
		if r := verify(t, l, audit.VerifyOptions{}); r.Intact() == (cut == len(torn)+1) {
			t.Fatalf("cut at %d: %+v", cut-len(torn), r)
		}
		appendTo(t, l, entry("prune", audit.OutcomeDone))
		r := verify(t, l, audit.VerifyOptions{})
		if !r.Intact() || r.TornEnd || r.Torn == 0 || r.Torn > 2 || cut < record && r.LastSeq != 4 {
			t.Fatalf("cut at %d, then appended: %+v", cut-len(torn), r)
		}
		// No byte of what they left can be changed any more.
		text := mustRead(t, o.Path)
		text[len(torn)-20] ^= 1
		mustWrite(t, o.Path, text)
		if verify(t, l, audit.VerifyOptions{}).Intact() {
			t.Fatalf("cut at %d: a changed byte is not found", cut-len(torn))
		}
	}
	// A third one, and a whole line that is wrong: that is no writer's.
	mustWrite(t, o.Path, append(slices.Clone(torn), "\n{\"action\":\n{\"act"...))
	appendTo(t, l, entry("prune", audit.OutcomeDone))
	if r := verify(t, l, audit.VerifyOptions{}); !r.Intact() || r.Torn != 3 {
		t.Errorf("%+v", r)
	}
	mustWrite(t, o.Path, append(slices.Clone(torn), "\n{}\n{\"act"...))
	if _, err := l.Append(t.Context(), entry("prune", audit.OutcomeDone)); pgmedic.KindOf(err) != pgmedic.KindIntegrity || err == nil {
		t.Errorf("%v", err)
	}
	if verify(t, l, audit.VerifyOptions{}).Intact() {
		t.Error("a line that is whole and wrong is taken for a torn one")
	}
}

// TestLongPause: nothing expires by a clock that is far after the last record, and does in
// the month after that.
func TestLongPause(t *testing.T) {
	_, c, o := newLog(t)
	o.Keep = pgmedic.Length{Months: 3}
	l := audit.New(o)
	files := func() int {
		names, err := filepath.Glob(filepath.Join(filepath.Dir(o.Path), "audit-*.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	c.at = c.at.AddDate(10, 0, 0)
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	if files() != 1 {
		t.Errorf("%d files", files())
	}
	c.at = c.at.AddDate(0, 1, 0)
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	if r := verify(t, l, audit.VerifyOptions{}); files() != 1 || !r.Intact() || r.FirstSeq != 3 {
		t.Errorf("%d files, %+v", files(), r)
	}
}

// TestMonths: each month has its file, and old ones go, which the log says.
func TestMonths(t *testing.T) {
	_, c, o := newLog(t)
	o.Keep = pgmedic.Length{Months: 3}
	l := audit.New(o)
	for range 6 {
		appendTo(t, l, entry("backup", audit.OutcomeDone), entry("prune", audit.OutcomeDone))
		c.at = c.at.AddDate(0, 1, 0)
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(o.Path), "audit-*.jsonl"))
	if err != nil || len(names) != 3 || filepath.Base(names[0]) != "audit-2027-01-000000007.jsonl" {
		t.Fatalf("%v %v", names, err)
	}
	r := verify(t, l, audit.VerifyOptions{})
	if !r.Intact() || r.FirstSeq != 7 || r.Files != 4 {
		t.Errorf("%+v", r)
	}
	// A clock that goes back begins no file.
	c.at = c.at.AddDate(0, -3, 0)
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	if r := verify(t, l, audit.VerifyOptions{}); !r.Intact() || r.Files != 4 {
		t.Errorf("%+v", r)
	}
	// A writer that was killed between the two files.
	c.at = c.at.AddDate(0, 6, 0)
	o.Keep = pgmedic.Length{}
	l = audit.New(o)
	if err := os.Rename(o.Path, filepath.Join(filepath.Dir(o.Path), "audit-2027-04-000000017.jsonl")); err != nil {
		t.Fatal(err)
	}
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	if r := verify(t, l, audit.VerifyOptions{}); !r.Intact() || r.Files != 5 {
		t.Errorf("%+v", r)
	}
	for _, name := range names {
		text := mustRead(t, name)
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, l, audit.VerifyOptions{}); r.Intact() {
			t.Errorf("%s is gone, and nothing shows it", name)
		}
		mustWrite(t, name, text)
	}
	// Two files that change places.
	a, b := mustRead(t, names[1]), mustRead(t, names[2])
	mustWrite(t, names[1], b)
	mustWrite(t, names[2], a)
	if r := verify(t, l, audit.VerifyOptions{}); r.Intact() {
		t.Error("two files changed places, and nothing shows it")
	}
	mustWrite(t, o.Path, nil)
	if _, err := l.Append(t.Context(), entry("backup", audit.OutcomeDone)); pgmedic.KindOf(err) != pgmedic.KindIntegrity || err == nil {
		t.Errorf("a log that was emptied was written to: %v", err)
	}
}

// TestSinks: each record is forwarded once, and a sink that fails costs no record.
func TestSinks(t *testing.T) {
	_, _, o := newLog(t)
	file := filepath.Join(t.TempDir(), "copy.jsonl")
	var stream bytes.Buffer
	o.Sinks = []audit.Sink{audit.File{Path: file}, audit.Stream{Name: "stderr", To: &stream}}
	l := audit.New(o)
	appendTo(t, l, entry("backup", audit.OutcomeDone), entry("drill", audit.OutcomeDone))
	if whole := string(mustRead(t, o.Path)); string(mustRead(t, file)) != whole || stream.String() != whole {
		t.Error("the copy is another one")
	}
	// A pipe can't be flushed.
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := (audit.File{Path: pipe}).Send(t.Context(), []byte("x")); err != nil {
		t.Error(err)
	}
	o.Sinks = []audit.Sink{audit.File{Path: filepath.Join(file, "below")}, audit.Syslog{Socket: filepath.Join(t.TempDir(), "none")}}
	_, err = audit.New(o).Append(t.Context(), entry("backup", audit.OutcomeDone))
	if pgmedic.KindOf(err) != pgmedic.KindDegraded || err == nil || strings.Contains(err.Error(), "clinic") {
		t.Errorf("%v", err)
	}
	if r := verify(t, l, audit.VerifyOptions{}); !r.Intact() || r.Records != 4 {
		t.Errorf("%+v", r)
	}
}

// TestCancelled: a context that ended ends the wait for the lock.
func TestCancelled(t *testing.T) {
	l, _, o := newLog(t)
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	release := holdLock(t, o.Path+".lock")
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, entry("backup", audit.OutcomeDone)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// FuzzLog: no content of the file but the log's own is intact, or ends the program.
func FuzzLog(f *testing.F) {
	dir := f.TempDir()
	o := audit.Options{Path: filepath.Join(dir, "audit.jsonl"), KeyPath: filepath.Join(dir, "audit.key"), Host: "db1"}
	l := audit.New(o)
	for _, outcome := range []string{audit.OutcomeIntended, audit.OutcomeDone} {
		if _, err := l.Append(context.Background(), entry("prune", outcome)); err != nil {
			f.Fatal(err)
		}
	}
	whole, err := os.ReadFile(o.Path)
	if err != nil {
		f.Fatal(err)
	}
	anchor, _, err := l.Head(context.Background(), "another run")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte("{}\n"))
	f.Add([]byte(strings.Repeat("x", 100_000)))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, data []byte) {
		mustWrite(t, o.Path, data)
		r := verify(t, l, anchoredBy(anchor))
		if same := strings.TrimSuffix(string(data), "\n") == strings.TrimSuffix(string(whole), "\n"); same && !r.Intact() ||
			!same && r.Intact() && (!r.TornEnd || !bytes.HasPrefix(data, whole)) {
			t.Errorf("intact %t: %+v", r.Intact(), r)
		}
		_, _ = audit.ParseAnchor(data) // must not panic
	})
}

// TestAccept: what was gone when somebody accepted it is no problem any more; what goes later,
// and the same record's anchor in another place, is.
func TestAccept(t *testing.T) {
	l, c, _ := newLog(t)
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	var all []audit.StoredName
	for i, place := range []string{"file:///a", "file:///a", "file:///b"} {
		c.at = c.at.Add(time.Duration(i+1) * time.Hour)
		a := head(t, l)
		if err := l.NoteAnchor(t.Context(), entry("", ""), "main", place, a); err != nil {
			t.Fatal(err)
		}
		all = append(all, audit.StoredName{Place: place, Log: a.Log, Seq: a.Seq})
	}
	with := func(stored ...audit.StoredName) audit.VerifyOptions {
		return audit.VerifyOptions{Stores: []string{"file:///a", "file:///b"}, Stored: stored, ReadAt: c.at.Add(time.Minute)}
	}
	r := verify(t, l, with(all[1:]...))
	if len(r.Lost) != 1 || r.Lost[0].Seq != all[0].Seq || len(r.Problems) != 1 {
		t.Fatalf("%+v", r)
	}
	e := entry("", "")
	e.Reason = "emptied"
	if err := l.Accept(t.Context(), e, r.Lost); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, l, with(all[1:]...)); !r.Intact() || len(r.Lost) > 0 || len(r.Accepted) != 1 || r.Accepted[0].Anchors != 1 || r.Accepted[0].Reason != "emptied" {
		t.Errorf("%+v", r)
	}
	if r := verify(t, l, with()); len(r.Lost) != 2 || len(r.Problems) != 2 {
		t.Errorf("what went later is accepted: %+v", r)
	}
}
