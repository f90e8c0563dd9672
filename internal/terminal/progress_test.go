package terminal_test

import (
	"bytes"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/terminal"
)

// clock is a time that the test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// progressOn returns a Progress that writes into a buffer, its screen and its clock.
func progressOn(live bool, columns int) (*terminal.Progress, *terminal.Screen, *clock, *bytes.Buffer) {
	var out bytes.Buffer
	c := &clock{t: time.Unix(1000, 0)}
	screen := &terminal.Screen{Text: terminal.Text{W: &out}}
	return terminal.NewProgress(terminal.ProgressOptions{Screen: screen, Live: live, Width: func() int { return columns }, Now: c.now}), screen, c, &out
}

// frames are what was drawn, one after the other.
func frames(out string) []string {
	var drawn []string
	for _, f := range strings.Split(out, "\r") {
		if f = strings.TrimSuffix(f, "\x1b[K"); f != "" {
			drawn = append(drawn, f)
		}
	}
	return drawn
}

func TestProgressOnTerminal(t *testing.T) {
	p, _, c, out := progressOn(true, 60)
	const total = 10 << 30
	send := func(done int64) {
		p.Event(pgmedic.Event{Step: "data", Object: `"public"."` + strings.Repeat("patients ", 20) + "\x1b[31m\"", DoneBytes: done, TotalBytes: total})
	}
	send(0)
	for second := range int64(100) { // 100 MiB/s, then nothing for a while, then more than all
		c.t = c.t.Add(time.Second)
		send((second + 1) * 100 << 20)
	}
	steady := frames(out.String())
	last := steady[len(steady)-1]
	if !strings.Contains(last, "97%") || !strings.Contains(last, "of 10.0 GiB") || !strings.Contains(last, "100.0 MiB/s") {
		t.Errorf("after 100 s of 100 MiB: %q", last)
	}
	for range 30 {
		c.t = c.t.Add(time.Second)
		p.Tick()
	}
	stalled := frames(out.String())
	if speed := stalled[len(stalled)-1]; strings.Contains(speed, "100.0 MiB/s") {
		t.Errorf("nothing has come for 30 s: %q", speed)
	}
	send(total / 2) // a piece is read once more
	c.t = c.t.Add(time.Second)
	send(2 * total)
	percent := regexp.MustCompile(`(\d+)%`)
	for _, f := range frames(out.String()) {
		if width := lipgloss.Width(f); width > 59 {
			t.Errorf("%d columns wide on a terminal of 60: %q", width, f)
		}
		if m := percent.FindStringSubmatch(f); m != nil {
			if n, _ := strconv.Atoi(m[1]); n > 99 {
				t.Errorf("more than all: %q", f)
			}
		}
		if strings.Contains(f, "-") || strings.Contains(f, "\x1b[31m") {
			t.Errorf("a negative number, or the name drives the terminal: %q", f)
		}
	}
	p.Event(pgmedic.Event{Step: "data", Finished: true})
	if got := out.String(); !strings.HasSuffix(got, "\r\x1b[K  data          2 min 11 s\n") {
		t.Errorf("the end is %q", got[max(0, len(got)-60):])
	}
	p.Tick()
	if !strings.HasSuffix(out.String(), "2 min 11 s\n") {
		t.Error("a step that has ended is drawn again")
	}
}

// TestProgressElsewhere sees few lines, and that none is written over.
func TestProgressElsewhere(t *testing.T) {
	p, _, c, out := progressOn(false, 0)
	const hours = 10 * 3600
	for second := range int64(hours) {
		p.Event(pgmedic.Event{Step: "data", DoneBytes: second << 20, TotalBytes: hours << 20})
		c.t = c.t.Add(time.Second)
	}
	p.Event(pgmedic.Event{Step: "data", Finished: true})
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if n := len(lines); n < 500 || n > 700 {
		t.Errorf("%d lines in ten hours", n)
	}
	if strings.ContainsAny(out.String(), "\r\x1b") {
		t.Error("a line is written over where it can't be")
	}
	if !strings.Contains(lines[300], "50%") || !strings.Contains(lines[300], "1.0 MiB/s  about 4 h 59 min left") {
		t.Errorf("in the middle: %q", lines[300])
	}
	p, _, c, out = progressOn(false, 0)
	for range 9 {
		p.Event(pgmedic.Event{Step: "data", DoneBytes: 1, TotalBytes: 2})
		c.t = c.t.Add(time.Second)
	}
	if out.Len() > 0 {
		t.Errorf("a short step is told of before its end: %q", out)
	}
}

// TestProgressAndLog writes a log line while a line is drawn.
func TestProgressAndLog(t *testing.T) {
	p, screen, _, out := progressOn(true, 80)
	p.Event(pgmedic.Event{Step: "data"})
	if _, err := screen.Write([]byte("a warning\n")); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasSuffix(got, "…\x1b[K\r\x1b[Ka warning\n") {
		t.Errorf("%q", got)
	}
}

func TestTimeLeft(t *testing.T) {
	for _, tt := range []struct {
		bytes int64
		rate  float64
		want  time.Duration
		ok    bool
	}{
		{1000, 10, 100 * time.Second, true}, {1, 10, time.Second, true}, {0, 10, 0, false}, {-5, 10, 0, false},
		{1 << 50, 1, 0, false}, {1000, 0, 0, false},
	} {
		if got, ok := terminal.TimeLeft(tt.bytes, tt.rate); got != tt.want || ok != tt.ok {
			t.Errorf("%d bytes at %v/s: %s, %t", tt.bytes, tt.rate, got, ok)
		}
	}
}

// TestProgressNests: while a step is within another, it is shown; then the outer one is again.
func TestProgressNests(t *testing.T) {
	p, _, c, out := progressOn(true, 60)
	show := func(want string) {
		t.Helper()
		c.t = c.t.Add(time.Second)
		p.Tick()
		drawn := frames(out.String())
		if got := drawn[len(drawn)-1]; !strings.HasPrefix(got, "  "+want+" ") {
			t.Errorf("%q is drawn, want step %s", got, want)
		}
	}
	p.Event(pgmedic.Event{Step: "outer"})
	show("outer")
	p.Event(pgmedic.Event{Step: "inner"})
	show("inner")
	p.Event(pgmedic.Event{Step: "inner", Failed: true})
	if strings.Contains(out.String(), "\n") {
		t.Errorf("a step that failed is called done: %q", out)
	}
	show("outer")
}

// TestProgressRecords: with a log there are records in place of lines, even at a terminal.
func TestProgressRecords(t *testing.T) {
	var log, out bytes.Buffer
	c := &clock{t: time.Unix(1000, 0)}
	p := terminal.NewProgress(terminal.ProgressOptions{
		Screen: &terminal.Screen{Text: terminal.Text{W: &out}}, Live: true, Now: c.now,
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})),
	})
	stop := p.Start()
	for done := range int64(3) { // 0 %, 20 % after 15 s, 40 % after 30 s
		p.Event(pgmedic.Event{Step: "data", DoneBytes: done * 20, TotalBytes: 100})
		c.t = c.t.Add(15 * time.Second)
	}
	p.Event(pgmedic.Event{Step: "data", Finished: true})
	stop()
	stop()
	want := `level=INFO msg="step goes on" step=data done_bytes=20 total_bytes=100 seconds=15
level=INFO msg="step goes on" step=data done_bytes=40 total_bytes=100 seconds=30
level=INFO msg="step done" step=data seconds=45
`
	if log.String() != want || out.Len() > 0 {
		t.Errorf("records\n%s, want\n%s; on the screen: %q", log.String(), want, out.String())
	}
}

// TestProgressStops: the line is taken away when the run ends, and by an interrupt within a
// step, too.
func TestProgressStops(t *testing.T) {
	p, _, _, out := progressOn(true, 60)
	stop := p.Start()
	p.Event(pgmedic.Event{Step: "data"})
	stop()
	if got := out.String(); !strings.HasSuffix(got, "…\x1b[K\r\x1b[K") {
		t.Errorf("%q", got)
	}
}
