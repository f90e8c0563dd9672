package render_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic/internal/render"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 1 << 20: "1.0 MiB", 5 << 30: "5.0 GiB",
		1 << 50: "1.0 PiB", math.MaxInt64: "8.0 EiB", -2048: "-2.0 KiB", math.MinInt64: "-8.0 EiB",
	} {
		if got := render.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -999: "-999",
		math.MinInt64: "-9,223,372,036,854,775,808",
	} {
		if got := render.Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", time.Microsecond: "< 1 ms", 850 * time.Millisecond: "850 ms", 999_700 * time.Microsecond: "1.0 s",
		3200 * time.Millisecond: "3.2 s", 9_960 * time.Millisecond: "10 s", 59_600 * time.Millisecond: "1 min", 42 * time.Second: "42 s",
		125 * time.Second: "2 min 5 s", time.Hour: "1 h", 192 * time.Minute: "3 h 12 min", 26 * time.Hour: "1 d 2 h",
		400 * 24 * time.Hour: "400 d", -time.Minute: "-1 min", math.MaxInt64: "106751 d 23 h", math.MinInt64: "-106751 d 23 h",
	} {
		if got := render.Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "just now", 5 * time.Second: "5 s ago", 90 * time.Second: "1 min ago", 47 * time.Hour: "47 h ago",
		49 * time.Hour: "2 days ago", -3 * time.Hour: "in 3 h",
	} {
		if got := render.Ago(noon, noon.Add(-d)); got != want {
			t.Errorf("Ago(%s) = %q, want %q", d, got, want)
		}
	}
	if got := render.Ago(noon, time.Time{}); got != "never" {
		t.Errorf("never is %q", got)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "Zoë 診療 🏥": "Zoë 診療 🏥", "a\x1b[31mb": `a\x1b[31mb`, "a\nb\tc\r": `a\nb\tc\x0d`,
		"\u009b31m": `\u009b31m`, "a\u202eb": `a\u202eb`, "\xff\xfe": `\xff\xfe`, "a\u200bb": `a\u200bb`, "\U000e0041": `\U000e0041`,
	} {
		if got := render.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b]0;x\a\xff\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		got := render.Clean(s)
		if got != render.Clean(got) {
			t.Errorf("%q is cleaned twice", s)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
			t.Errorf("%q still holds a control character", got)
		}
	})
}

func TestTableMeasuresWhatATerminalShows(t *testing.T) {
	out := render.Table([]string{"NAME", "N"}, [][]string{{"診療", "1"}, {"e\u0301te\u0301", "22"}, {"a\x1bb"}, {"abcdefghij", "333"}},
		render.TableOptions{Indent: 1, Right: []int{1}})
	want := " NAME          N\n 診療          1\n e\u0301te\u0301          22\n a\\x1bb\n abcdefghij  333\n"
	if out != want {
		t.Errorf("got\n%s, want\n%s", out, want)
	}
}

func TestTableShrinksItsWidestColumns(t *testing.T) {
	rows := [][]string{{strings.Repeat("診", 30), strings.Repeat("b", 30), "123456"}}
	for _, width := range []int{20, 40, 60, 200} {
		out := render.Table([]string{"A", "B", "C"}, rows, render.TableOptions{Width: width, Shrink: []int{0, 1}})
		if !strings.Contains(out, "123456") {
			t.Errorf("a column that may not shrink did:\n%s", out)
		}
		for line := range strings.SplitSeq(out, "\n") {
			if n := lipgloss.Width(line); n > width && width > 20 {
				t.Errorf("%d of %d columns: %s", n, width, line)
			}
		}
	}
}
