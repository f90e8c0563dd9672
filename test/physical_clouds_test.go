package test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/store/azuretest"
	"github.com/pgmedic/pgmedic/internal/store/gcstest"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/store/sftptest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// readableFile copies a file with credentials to where the server's user, who fetches WAL,
// can read it.
func (b *walBench) readableFile(name string) (path string) {
	b.t.Helper()
	path = filepath.Join(b.tmp, filepath.Base(name))
	owner := ownerOf(b.t, b.server.DataDir())
	if err := os.WriteFile(path, readFile(b.t, name), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// TestPhysicalOnClouds: in each kind of store a base backup and streamed WAL are listed, read
// back, drilled and restored to their end, by a server that fetches its WAL from there.
func TestPhysicalOnClouds(t *testing.T) {
	testkit.OnlyAll(t, "a service, a drill and a restore for each kind of store")
	for kind, place := range map[string]func(t *testing.T, b *walBench) (env []string){
		"S3": func(t *testing.T, _ *walBench) []string {
			s3 := s3test.Start(t, s3test.Options{})
			return append(s3.Environ(), "PGMEDIC_STORE=s3://"+s3.Bucket()+"/db", "PGMEDIC_S3_ENDPOINT="+s3.Endpoint, "PGMEDIC_S3_PATH_STYLE=true")
		},
		"Azure": func(t *testing.T, _ *walBench) []string {
			cloud := azuretest.Start(t)
			return []string{"PGMEDIC_STORE=azblob://" + cloud.Container() + "/db", "AZURE_STORAGE_CONNECTION_STRING=" + cloud.ConnectionString()}
		},
		"Google": func(t *testing.T, b *walBench) []string {
			cloud := gcstest.Start(t)
			return []string{
				"PGMEDIC_STORE=gs://" + cloud.Bucket() + "/db", "PGMEDIC_GCS_ENDPOINT=" + cloud.Endpoint,
				"GOOGLE_APPLICATION_CREDENTIALS=" + b.readableFile(cloud.Credentials(true)),
			}
		},
		"SFTP": func(t *testing.T, b *walBench) []string {
			host := sftptest.Start(t, sftptest.Options{})
			return []string{
				"PGMEDIC_STORE=" + host.URL(filepath.Join(t.TempDir(), "db")), "PGMEDIC_SFTP_IDENTITY_FILE=" + b.readableFile(host.IdentityFile),
				"PGMEDIC_SFTP_KNOWN_HOSTS=" + b.readableFile(host.KnownHosts), "SSH_AUTH_SOCK=",
			}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			b := newWALBench(t, 0)
			env := place(t, b)
			b.env, b.reader = slices.Concat(b.env, env), slices.Concat(b.reader, env)
			stream := b.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
			b.wantStreaming()
			b.sql("INSERT INTO ledger SELECT g, repeat('x', 500) FROM generate_series(1, 3000) AS g")
			row, _ := b.physical(0)
			b.sql("INSERT INTO ledger SELECT g, repeat('y', 500) FROM generate_series(3001, 6000) AS g")
			b.sql("SELECT pg_switch_wal()")
			b.sql("DELETE FROM ledger WHERE n % 7 = 0")
			want := b.ask(ledgerSum)
			b.wantStored()
			stream.signal(syscall.SIGTERM)
			if r := stream.wait(time.Minute); r.code != 0 {
				t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
			}
			if err := os.Mkdir(b.store, 0o700); err != nil { // where nothing is stored
				t.Fatal(err)
			}
			c := b.restoring()
			for _, args := range [][]string{{"list"}, {"verify", row.ID}, {"drill", "--at", "latest", "--no-amcheck"}} {
				if r := c.asReader(args...); r.code != 0 {
					t.Errorf("%s: exit code %d, %s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
				}
			}
			port := c.port()
			done, r := c.restore(0, "data", "--to-end", "--start", "--start-port", port)
			if done.Backup != row.ID || done.Started == nil || !done.Started.Running {
				t.Fatalf("restored: %s%s", r.stdout, r.stderr)
			}
			if got := c.asks(port, ledgerSum); got != want {
				t.Errorf("restored %s, want %s", got, want)
			}
			if left, err := os.ReadDir(b.store); err != nil || len(left) > 0 {
				t.Errorf("the folder that is not the store has %v, %v", left, err)
			}
		})
	}
}
