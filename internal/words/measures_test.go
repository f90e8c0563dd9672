package words_test

import (
	"math"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/words"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 1 << 20: "1.0 MiB", 5 << 30: "5.0 GiB",
		1 << 50: "1.0 PiB", math.MaxInt64: "8.0 EiB", -2048: "-2.0 KiB", math.MinInt64: "-8.0 EiB",
	} {
		if got := words.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -999: "-999",
		math.MinInt64: "-9,223,372,036,854,775,808",
	} {
		if got := words.Count(n); got != want {
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
		if got := words.Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "just now", 5 * time.Second: "5 s ago", 90 * time.Second: "1 min ago", 47 * time.Hour: "47 h ago",
		49 * time.Hour: "2 days ago", -3 * time.Hour: "in 3 h",
	} {
		if got := words.Ago(now, now.Add(-d)); got != want {
			t.Errorf("Ago(%s) = %q, want %q", d, got, want)
		}
	}
	if got := words.Ago(now, time.Time{}); got != "never" {
		t.Errorf("never is %q", got)
	}
}

func TestFirstFew(t *testing.T) {
	for want, things := range map[string][]string{
		"": nil, "a": {"a"}, "a; b; c; d; e": {"a", "b", "c", "d", "e"}, "a; b; c; d; e; and 2 more": {"a", "b", "c", "d", "e", "f", "g"},
	} {
		if got := words.FirstFew(things); got != want {
			t.Errorf("FirstFew(%q) = %q, want %q", things, got, want)
		}
	}
}
