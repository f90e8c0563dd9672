package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// noTrace checks that a run left no process and no file.
func (b *bench) noTrace() {
	b.t.Helper()
	if left := b.processes(); len(left) > 0 && runtime.GOOS == "linux" {
		b.t.Errorf("processes are left: %q", left)
	}
	if left := b.leftovers(); len(left) > 0 {
		b.t.Errorf("files are left: %q", left)
	}
	if left, err := os.ReadDir(b.dir); err != nil || len(left) > 0 {
		b.t.Errorf("the working folder has %q, %v", left, err)
	}
}

// newcomer is a bench with nothing configured and a working folder that can't
// be written to. (Root writes everywhere; then it only has to stay empty.)
func newcomer(t *testing.T) *bench {
	b := newBench(t)
	b.env = []string{"PATH=" + os.Getenv("PATH") + string(os.PathListSeparator) + b.mark, "HOME=" + filepath.Join(b.tmp, "none"), "TMPDIR=" + b.tmp,
		"PGMEDIC_POSTGRES_DIRS=" + programs,
		// A demo has nothing to do with what is configured for a real database.
		"DATABASE_URL=postgres://nobody@no-such-host.invalid/none", "BACKUP_ENCRYPTION_KEY=x"}
	if err := os.Chmod(b.dir, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(b.dir, 0o755) })
	return b
}

func TestDemo(t *testing.T) {
	t.Parallel()
	b := newcomer(t)
	b.env = append(b.env, "PGMEDIC_POSTGRES_DIRS="+filepath.Dir(server.BinDir())) // with the real initdb
	out := b.ok("demo")
	for _, want := range []string{
		`Backed up +\d{8}T\d{6}Z-[0-9a-f]{6} in `, `Proven +proven: .*; [0-9.]+ (ms|s) to recover`,
		`Restored +15,000 claims are back`, `Undone `, `without a primary key|has no primary key`, `pgmedic backup`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("it does not say %s:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("it prints colours where there is no terminal")
	}
	b.noTrace()
}

func TestDemoJSON(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	b := newcomer(t)
	var result struct {
		BackupID        string           `json:"backup_id"`
		Proof           string           `json:"proof"`
		RecoverySeconds float64          `json:"recovery_seconds"`
		Restore         *json.RawMessage `json:"restore"`
		Rollback        *json.RawMessage `json:"rollback"`
		Findings        []any            `json:"findings"`
	}
	if err := json.Unmarshal([]byte(b.ok("demo", "--json")), &result); err != nil {
		t.Fatal(err)
	}
	if result.BackupID == "" || result.Proof != "proven" || result.RecoverySeconds <= 0 || result.Restore == nil ||
		result.Rollback == nil || len(result.Findings) < 3 {
		t.Errorf("the result is %+v", result)
	}
	b.noTrace()
}

// What demo --keep says how to connect to is there until the interrupt, which
// is the end that was asked for.
func TestDemoKeep(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	b := newcomer(t)
	c := b.start("demo", "--keep")
	testkit.Eventually(t, time.Minute, "the server is kept", func() bool { return strings.Contains(c.stderr.String(), "until Ctrl-C") })
	if runtime.GOOS == "linux" && !contains(b.processes(), "postgres") {
		t.Error("no server runs")
	}
	c.signal(syscall.SIGINT)
	if r := c.wait(time.Minute); r.code != 0 {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
	b.noTrace()
}
