package bench

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// BenchmarkReport measures whole processes of `pgmedic report`, with a
// connection of their own: of a database of 10,000 tables, 20,000 indexes and
// 5,000 statements of 16 kB, and of an empty one. PGMEDIC_BENCH_EXPORTER is the
// path of a postgres_exporter to pair metrics with: theirs is one scrape of a
// process that runs and is connected, ours the start of the program, too.
func BenchmarkReport(b *testing.B) {
	pgmedic := binary(b)
	b.Run("small", func(b *testing.B) {
		reports(b, pgmedic, scratchtest.Database(b, scratchtest.New(b, scratchtest.ManyOptions())))
	})
	b.Run("10000-tables", func(b *testing.B) {
		reports(b, pgmedic, scratchtest.Many(b, scratchtest.New(b, scratchtest.ManyOptions()), 10_000, 5_000))
	})
}

// reports measures the formats of one database's report.
func reports(b *testing.B, pgmedic, dsn string) {
	b.Helper()
	dir := b.TempDir()
	env := []string{"DATABASE_URL=" + dsn, "BACKUP_DIR=" + filepath.Join(dir, "none"), "HOME=" + dir}
	for _, of := range []struct {
		name string
		args []string
	}{
		{"text", []string{"report"}},
		{"json", []string{"report", "--json"}},
		{"metrics", []string{"report", "--format", "prometheus"}},
		{"metrics-without-catalogue", []string{
			"report", "--format", "prometheus", "--section", "connections,locks,replication,transactions,checkpoints,size,backups",
		}},
	} {
		b.Run(of.name, func(b *testing.B) {
			alone(b, func() run { return measure(b, dsn, env, pgmedic, of.args...) })
		})
	}
	if exporter := os.Getenv("PGMEDIC_BENCH_EXPORTER"); exporter != "" {
		b.Run("metrics-against-exporter", func(b *testing.B) {
			scrape := serveExporter(b, exporter, dsn)
			pairs(b, func() run { return measure(b, dsn, env, pgmedic, "report", "--format", "prometheus") }, scrape)
		})
	}
}

// alone runs ours and reports the median and the slowest.
func alone(b *testing.B, ours func() run) {
	b.Helper()
	var seconds, memory []float64
	for b.Loop() {
		r := ours()
		seconds, memory = append(seconds, r.wall.Seconds()), append(memory, float64(r.rssKiB)/1024)
	}
	b.ReportMetric(median(seconds), "s-ours")
	b.ReportMetric(worst(seconds), "s-slowest")
	b.ReportMetric(worst(memory), "MiB-rss-ours")
	b.ReportMetric(0, "ns/op")
}

func worst(values []float64) (most float64) {
	for _, v := range values {
		most = max(most, v)
	}
	return most
}

// serveExporter starts a postgres_exporter and returns a scrape of it.
func serveExporter(b *testing.B, program, dsn string) func() run {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	cmd := exec.CommandContext(b.Context(), program, "--web.listen-address="+address, "--log.level=error")
	cmd.Env = append(os.Environ(), "DATA_SOURCE_NAME="+dsn)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	scrape := func() error {
		response, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("the exporter answers %s", response.Status)
		}
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	for began := time.Now(); scrape() != nil; {
		if time.Since(began) > time.Minute {
			b.Fatal("the exporter doesn't answer")
		}
		time.Sleep(50 * time.Millisecond)
	}
	return func() run {
		began := time.Now()
		if err := scrape(); err != nil {
			b.Fatal(err)
		}
		return run{wall: time.Since(began)}
	}
}
