package history_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/history"
)

// another is the environment variable that makes this program another process,
// which does what its first word says with the file that follows.
const another = "PGMEDIC_TEST_HISTORY"

func TestMain(m *testing.M) {
	if what, path, ok := strings.Cut(os.Getenv(another), " "); ok {
		if err := child(what, path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child adds readings until it is killed, or holds a lock until standard input
// ends.
func child(what, path string) error {
	ctx := context.Background() // a process of its own
	if what == "lock" {
		db, err := sql.Open("sqlite", source(path))
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		if _, err := db.ExecContext(ctx, "BEGIN EXCLUSIVE"); err != nil {
			return err
		}
		fmt.Println("locked")
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	}
	h, err := history.Open(ctx, history.Options{Path: path})
	if err != nil {
		return err
	}
	for at := time.Now().Add(-24 * time.Hour); ; at = at.Add(time.Second) {
		if err := h.Add(ctx, node, aReading(at.UTC())); err != nil {
			return err
		}
		fmt.Println("added")
	}
}

// start starts another process and returns its output.
func start(t *testing.T, what, path string) (cmd *exec.Cmd, input io.Closer, output *bufio.Scanner) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), another+"="+what+" "+path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, in, bufio.NewScanner(out)
}

// TestKilled kills a process in the middle of writing, again and again.
func TestKilled(t *testing.T) {
	path := file(t)
	for round := range 6 {
		cmd, _, output := start(t, "add", path)
		for range 3 + 5*round {
			if !output.Scan() {
				t.Fatal("it ended by itself")
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed

		h := open(t, history.Options{Path: path})
		if got := earlier(t, h); len(got) == 0 {
			t.Error("nothing is left")
		}
		if n := h.Notices(); n != nil {
			t.Error(n)
		}
		_ = h.Close()
		var problems string
		db := raw(t, path)
		if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&problems); err != nil || problems != "ok" {
			t.Error(problems, err)
		}
		_ = db.Close()
	}
}

// TestLocked has another process hold the file: a report waits for a bounded
// time, says so, and loses nothing.
func TestLocked(t *testing.T) {
	path := file(t)
	opts := history.Options{Path: path, Wait: 50 * time.Millisecond, Now: func() time.Time { return noon }}
	h := open(t, opts)
	add(t, h, aReading(noon.Add(-time.Hour)))
	cmd, input, output := start(t, "lock", path)
	if !output.Scan() || output.Text() != "locked" {
		t.Fatal(output.Text())
	}
	_, err := h.Earlier(t.Context(), history.KeyOf(node, aReading(noon)), time.Time{}, noon)
	if pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Error("read", err)
	}
	if err := h.Add(t.Context(), node, aReading(noon)); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Error("add", err)
	}
	if _, err := history.Open(t.Context(), opts); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Error("open", err)
	}
	_ = input.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	add(t, h, aReading(noon))
	if got := earlier(t, h); len(got) != 2 || h.Notices() != nil {
		t.Error(len(got), h.Notices())
	}
}

// TestTogether has several reports use one file at once, from its first moment.
func TestTogether(t *testing.T) {
	path := file(t)
	var all sync.WaitGroup
	errs := make([]error, 5)
	for i := range errs {
		all.Go(func() {
			h, err := history.Open(t.Context(), history.Options{Path: path, Wait: time.Minute, Now: func() time.Time { return noon }})
			if err == nil {
				err = h.Add(t.Context(), node, aReading(noon.Add(-time.Duration(i)*time.Hour)))
				_ = h.Close()
			}
			errs[i] = err
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if got := earlier(t, open(t, history.Options{Path: path})); len(got) != len(errs) {
		t.Errorf("%d readings", len(got))
	}
}

// BenchmarkReport is what a report has of its history: two days of readings
// every five minutes, 28 days every hour, and a year every day.
func BenchmarkReport(b *testing.B) {
	path := file(b)
	begin := noon.AddDate(-1, 0, 0)
	var now time.Time
	h := open(b, history.Options{Path: path, Now: func() time.Time { return now }, MaxBytes: 1 << 40})
	if _, err := h.DB().ExecContext(b.Context(), "PRAGMA synchronous = OFF"); err != nil {
		b.Fatal(err)
	}
	for at := begin; at.Before(noon); at = now {
		step := 24 * time.Hour
		if noon.Sub(at) <= 30*24*time.Hour {
			step = time.Hour
		}
		if noon.Sub(at) <= 48*time.Hour {
			step = 5 * time.Minute
		}
		now = at.Add(step)
		add(b, h, aReading(now))
	}
	if err := h.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	for _, days := range []int{7, 30} {
		b.Run(fmt.Sprintf("since %d days", days), func(b *testing.B) {
			n := 0
			for b.Loop() {
				now = now.Add(time.Minute)
				r := aReading(now)
				h := open(b, history.Options{Path: path, Now: func() time.Time { return now }})
				all, err := h.Earlier(b.Context(), history.KeyOf(node, r), now.AddDate(0, 0, -days), now)
				if err != nil {
					b.Fatal(err)
				}
				n = len(all)
				add(b, h, r)
				if err := h.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n), "readings")
			b.ReportMetric(float64(info.Size()>>20), "MiB")
		})
	}
}
