package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/azure"
	"github.com/pgmedic/pgmedic/internal/store/azuretest"
	"github.com/pgmedic/pgmedic/internal/store/gcs"
	"github.com/pgmedic/pgmedic/internal/store/gcstest"
	"github.com/pgmedic/pgmedic/internal/store/s3"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/store/sftptest"
)

// dumped is a dump of the bench's database, as pg_dump writes it.
func (b *bench) dumped() []byte {
	b.t.Helper()
	out, err := exec.CommandContext(b.t.Context(), filepath.Join(server.BinDir(), "pg_dump"), "-Fc", "-d", server.DSN(b.database)).Output()
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// putDump stores a dump in a cloud.
func putDump(t *testing.T, s store.Store, err error, key string, dump []byte) {
	t.Helper()
	if err == nil {
		_, err = s.Put(t.Context(), key, bytes.NewReader(dump))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// restoresDump restores the dump at an address, and refuses one that is not there.
func (b *bench) restoresDump(address string) {
	b.t.Helper()
	const rows = "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM patients p"
	into := b.database + "_from"
	out := b.ok("restore", "--file", address, "--into", into, "--yes")
	if !strings.Contains(out, address) {
		b.t.Errorf("it does not say where the dump is from:\n%s", out)
	}
	if got, want := query(b.t, into, rows), query(b.t, b.database, rows); !slices.Equal(got, want) {
		b.t.Error("the copy has other rows")
	}
	if r := b.run("restore", "--file", address+".no", "--into", into+"2", "--yes"); r.code != 10 {
		b.t.Errorf("what is not there: exit code %d\n%s", r.code, r.stderr)
	}
}

// TestDumpFromSFTP: the folder of the dump is reached as the copy on that host.
func TestDumpFromSFTP(t *testing.T) {
	host := sftptest.Start(t, sftptest.Options{})
	b := newBench(t, patients("2000")...)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "clinic 1.dump"), b.dumped(), 0o600); err != nil {
		t.Fatal(err)
	}
	b.configure("copies:\n  - name: far\n    store: " + host.URL(filepath.Join(dir, "copies")) + "\n    sftp:\n      password: env:FAR_PASSWORD\n      known_hosts: " + host.KnownHosts + "\n")
	b.env = append(b.env, "FAR_PASSWORD="+host.Password, "SSH_AUTH_SOCK=")
	b.restoresDump(host.URL(dir) + "/clinic%201.dump")
	for _, address := range []string{"sftp://u:hunter2@host/a/b.dump", "sftp://u@host/a/b.dump?hunter2", "ftp://u:hunter2@host/a"} {
		if r := b.run("restore", "--file", address, "--into", b.database+"_no", "--yes"); r.code != 2 || strings.Contains(r.stderr, "hunter2") {
			t.Errorf("%s: exit code %d\n%s", address, r.code, r.stderr)
		}
	}
}

func TestDumpFromS3(t *testing.T) {
	server := s3test.Start(t, s3test.Options{})
	b := newBench(t, patients("2000")...)
	bucket := server.Bucket()
	server.Setenv(t)
	s, err := s3.New(t.Context(), server.Options(bucket))
	putDump(t, s, err, "old/clinic.dump", b.dumped())
	b.env = append(append(b.env, "PGMEDIC_S3_ENDPOINT="+server.Endpoint, "PGMEDIC_S3_PATH_STYLE=true"), server.Environ()...)
	b.restoresDump("s3://" + bucket + "/old/clinic.dump")
}

func TestDumpFromAzure(t *testing.T) {
	cloud := azuretest.Start(t)
	b := newBench(t, patients("2000")...)
	container := cloud.Container()
	s, err := azure.New(azure.Options{Container: container, ConnectionString: cloud.ConnectionString()})
	putDump(t, s, err, "old/clinic.dump", b.dumped())
	b.env = append(b.env, "AZURE_STORAGE_CONNECTION_STRING="+cloud.ConnectionString())
	b.restoresDump("azblob://" + container + "/old/clinic.dump")
}

func TestDumpFromGCS(t *testing.T) {
	cloud := gcstest.Start(t)
	b := newBench(t, patients("2000")...)
	bucket := cloud.Bucket()
	s, err := gcs.New(gcs.Options{Bucket: bucket, Endpoint: cloud.Endpoint, CredentialsFile: cloud.Credentials(true)})
	putDump(t, s, err, "clinic.dump", b.dumped())
	b.env = append(b.env, "PGMEDIC_GCS_ENDPOINT="+cloud.Endpoint, "GOOGLE_APPLICATION_CREDENTIALS="+cloud.Credentials(true))
	b.restoresDump("gs://" + bucket + "/clinic.dump")
}
