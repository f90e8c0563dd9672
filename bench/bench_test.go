// Package bench measures pgmedic side by side with what people use instead: the
// same data, the same machine, turn by turn in one run, so that a machine that
// slows down slows both. What it prints are ratios; docs/benchmarks.md has the
// figures and the command.
package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// run is one measured process.
type run struct {
	wall   time.Duration
	rssKiB int64
}

// measure runs a command to its end. What others wrote before is on the disk
// when it begins: a flush must not pay for somebody else's bytes.
func measure(b *testing.B, env []string, name string, args ...string) run {
	b.Helper()
	syscall.Sync()
	cmd := exec.CommandContext(b.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	r := run{wall: time.Since(began)}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.rssKiB = usage.Maxrss
	}
	return r
}

// pairs runs ours and theirs turn by turn and reports medians: theirs/ours is
// how many times as fast ours is.
func pairs(b *testing.B, ours, theirs func() run) {
	b.Helper()
	var ratios, our, their, memory []float64
	for b.Loop() {
		o, t := ours(), theirs()
		ratios = append(ratios, t.wall.Seconds()/o.wall.Seconds())
		our, their = append(our, o.wall.Seconds()), append(their, t.wall.Seconds())
		memory = append(memory, float64(o.rssKiB)/1024)
	}
	b.ReportMetric(median(ratios), "theirs/ours")
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
	server := scratchtest.New(b, scratch.Options{Settings: map[string]string{"max_wal_size": "4GB"}})
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
	conn, err := pgx.Connect(b.Context(), dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(b.Context())) }()
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
				func() run { return measure(b, env, pgmedic, "backup", "--quiet", "--compression", c.compression) },
				func() run {
					return measure(b, nil, "bash", "-c", script, "bash", bin, dsn, filepath.Join(dir, "theirs.sql."+c.pipe))
				})
		})
	}
}
