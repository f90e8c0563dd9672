// Package bench measures pgmedic side by side with what people use instead: the
// same data, the same machine, turn by turn in one run, so that a machine that
// slows down slows both. What it prints are ratios; docs/benchmarks.md has the
// figures and the command.
package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// run is one measured process.
type run struct {
	wall   time.Duration
	rssKiB int64
	// processor is what the process and its children took of the processors, and the
	// server meanwhile.
	processor time.Duration
}

// measure runs a command to its end. What others wrote before is on the disk
// when it begins: a flush must not pay for somebody else's bytes.
func measure(b *testing.B, dsn string, env []string, name string, args ...string) run {
	b.Helper()
	syscall.Sync()
	server := serverTime(b, dsn)
	cmd := exec.CommandContext(b.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	if dir := os.Getenv("PGMEDIC_BENCH_BIN"); dir != "" {
		cmd.Env = append(cmd.Env, "PGMEDIC_POSTGRES_DIRS="+dir)
	}
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	r := run{wall: time.Since(began)}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.rssKiB = usage.Maxrss
	}
	r.processor = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + serverTime(b, dsn) - server
	return r
}

// serverTime returns what a server has taken of the processors so far, by Linux's
// /proc, in which a clock tick is 10 ms.
func serverTime(b *testing.B, dsn string) time.Duration {
	b.Helper()
	conn := testkit.Dial(b, dsn)
	defer testkit.End(conn)
	parent := int(ticks(b, int(conn.PgConn().PID()))[1])
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err != nil {
		b.Fatal(err)
	}
	all := ticks(b, parent)
	sum := all[11] + all[12] + all[13] + all[14] // its own, and of children that ended
	for _, child := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(child); err == nil {
			if t := ticks(b, pid); t != nil {
				sum += t[11] + t[12]
			}
		}
	}
	return time.Duration(sum) * 10 * time.Millisecond
}

// ticks returns the fields of /proc/PID/stat behind the name, see proc(5), or nil for a
// process that is gone. The first, a letter, is 0.
func ticks(b *testing.B, pid int) (fields []int64) {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	if err != nil {
		b.Fatal(err)
	}
	text := string(data)
	for _, field := range strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) {
		n, _ := strconv.ParseInt(field, 10, 64) // 0 for what is no number
		fields = append(fields, n)
	}
	return fields
}

// pairs runs ours and theirs turn by turn and reports medians: theirs/ours is
// how many times as fast ours is.
func pairs(b *testing.B, ours, theirs func() run) {
	b.Helper()
	var ratios, our, their, memory, work []float64
	for b.Loop() {
		o, t := ours(), theirs()
		ratios = append(ratios, t.wall.Seconds()/o.wall.Seconds())
		our, their = append(our, o.wall.Seconds()), append(their, t.wall.Seconds())
		memory = append(memory, float64(o.rssKiB)/1024)
		if t.processor > 0 {
			work = append(work, o.processor.Seconds()/t.processor.Seconds())
		}
	}
	b.ReportMetric(median(ratios), "theirs/ours")
	if len(work) > 0 {
		b.ReportMetric(median(work), "processor-ours/theirs")
	}
	b.ReportMetric(median(our), "s-ours")
	b.ReportMetric(median(their), "s-theirs")
	b.ReportMetric(slices.Max(memory), "MiB-rss-ours")
	b.ReportMetric(0, "ns/op")
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// binary builds pgmedic.
func binary(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "pgmedic")
	out, err := exec.CommandContext(b.Context(), "go", "build", "-o", path, "../cmd/pgmedic").CombinedOutput()
	if err != nil {
		b.Fatalf("build pgmedic: %v\n%s", err, out)
	}
	return path
}

// clinic loads the demo's database; PGMEDIC_BENCH_PATIENTS sets its size, some
// 7 KiB a patient.
func clinic(b *testing.B) (dsn, binDir string) {
	b.Helper()
	server := scratchtest.New(b, scratch.Options{
		Durable: true, BinDir: os.Getenv("PGMEDIC_BENCH_BIN"), Settings: map[string]string{"max_wal_size": "4GB"},
	})
	patients := 50000
	if text := os.Getenv("PGMEDIC_BENCH_PATIENTS"); text != "" {
		var err error
		if patients, err = strconv.Atoi(text); err != nil {
			b.Fatalf("PGMEDIC_BENCH_PATIENTS: %v", err)
		}
	}
	script, err := os.ReadFile("../cmd/pgmedic/clinic.sql")
	if err != nil {
		b.Fatal(err)
	}
	dsn = scratchtest.Database(b, server)
	conn := testkit.Dial(b, dsn)
	defer testkit.End(conn)
	sql := fmt.Sprintf("SET clinic.patients = '%d';\n%s", patients, script)
	if _, err := conn.PgConn().Exec(b.Context(), sql).ReadAll(); err != nil {
		b.Fatal(err)
	}
	return dsn, server.BinDir()
}

// BenchmarkPlainBackup compares `pgmedic backup` with pg_dump piped into a
// compressor, as scripts do it.
func BenchmarkPlainBackup(b *testing.B) {
	pgmedic := binary(b)
	dsn, bin := clinic(b)
	for _, c := range []struct{ compression, pipe string }{
		{"gzip", "gzip"}, {"zstd", "gzip"},
	} {
		b.Run(c.compression+"-against-pg_dump|"+c.pipe, func(b *testing.B) {
			dir := b.TempDir()
			env := []string{"DATABASE_URL=" + dsn, "BACKUP_DIR=" + filepath.Join(dir, "ours"), "HOME=" + dir}
			script := `set -euo pipefail; "$1/pg_dump" -d "$2" | ` + c.pipe + ` > "$3"`
			pairs(b,
				func() run { return measure(b, dsn, env, pgmedic, "backup", "--quiet", "--compression", c.compression) },
				func() run {
					return measure(b, dsn, nil, "bash", "-c", script, "bash", bin, dsn, filepath.Join(dir, "theirs.sql."+c.pipe))
				})
		})
	}
}
