package test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestFetchWaits: a store that is away when PostgreSQL asks for WAL is asked again, and the
// file is given when it is back; one that refuses the credentials is not.
func TestFetchWaits(t *testing.T) {
	testkit.OnlyAll(t, "the client of S3 takes most of a minute to give a server up")
	const away = "the store is away"
	s3 := s3test.Start(t, s3test.Options{})
	b := newWALBench(t, 0)
	others := len(b.env)
	b.inBucket(s3)
	place := b.env[others:]
	stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	b.wantStreaming()
	name := b.ask("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
	b.sql("INSERT INTO ledger VALUES (1, 'kept')")
	b.sql("SELECT pg_switch_wal()")
	b.wantStored()
	stream.signal(syscall.SIGTERM)
	stream.wait(time.Minute)

	b.env = slices.Concat(b.reader, place)
	path := filepath.Join(b.tmp, "RECOVERYXLOG")
	fetch := []string{"wal", "fetch", name, path}
	b.ok(fetch...)
	want := readFile(t, path)

	s3.Stop()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	waiting := b.start(fetch...)
	testkit.Eventually(t, 2*time.Minute, "it says that the store is away", func() bool { return strings.Contains(waiting.stderr.String(), away) })
	s3.Restart("", "")
	if r := waiting.wait(2 * time.Minute); r.code != 0 || !bytes.Equal(readFile(t, path), want) {
		t.Errorf("the store is back: exit code %d\n%s", r.code, r.stderr)
	}

	s3.Restart("another", "anothersecret")
	if r := b.run(fetch...); r.code != 255 || strings.Contains(r.stderr, away) || !strings.Contains(r.stderr, "credentials") {
		t.Errorf("refused: exit code %d\n%s", r.code, r.stderr)
	}
}
