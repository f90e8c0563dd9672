package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// listed is what the tests read of list --json.
type listed struct {
	Backups []struct {
		ID       string
		Database string
		Proof    struct{ State string }
		Copies   struct{ Complete, Wanted, Unknown int }
	}
	CopyStores []struct{ Name, Error string } `json:"copy_stores"`
}

func (b *bench) list(args ...string) (l listed) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.ok(append([]string{"list", "--json"}, args...)...)), &l); err != nil {
		b.t.Fatal(err)
	}
	return l
}

// TestCloudStorage copies to a bucket by the names that deployments have, on a
// host that has no key; has the bucket's server go away and come back; and brings
// the database back from the copy alone.
func TestCloudStorage(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel() // it mostly waits for a server that is gone
	s3 := s3test.Start(t, s3test.Options{})
	b := newBench(t, patients("50000")...)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity := filepath.Join(b.dir, "identity")
	if err := os.WriteFile(identity, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bucket := s3.Bucket()
	b.env = append(b.env, "BACKUP_METHOD=parallel", "BACKUP_RECIPIENTS="+id.Recipient().String(),
		"CLOUD_STORAGE_ENABLED=true", "CLOUD_STORAGE_PROVIDER=aws", "AWS_S3_BUCKET="+bucket+"/clinic")
	b.env = append(b.env, s3.Environ()...)
	// The SDK's own names say where the server is.
	b.env = append(b.env, "AWS_ENDPOINT_URL="+s3.Endpoint, "AWS_REGION=us-east-1")

	if out := b.ok("check"); !strings.Contains(out, "copy              cloud, s3://"+bucket+"/clinic: writes") {
		t.Errorf("check says:\n%s", out)
	}
	first := strings.TrimSpace(b.ok("backup", "-q"))
	if !contains(s3.Objects(bucket), "/"+first+"/manifest.json") || !contains(s3.Objects(bucket), "/"+first+"/pack-0001") {
		t.Errorf("the bucket has %q", s3.Objects(bucket))
	}
	if l := b.list(); l.Backups[0].Copies.Complete != 2 || l.Backups[0].Copies.Wanted != 2 {
		t.Errorf("listed: %+v", l)
	}

	s3.Stop()
	r := b.run("backup", "-q")
	second := strings.TrimSpace(r.stdout)
	if r.code != 15 || second == "" || !strings.Contains(r.stderr, "error: backup "+second+" is taken, and its copy is not whole") ||
		!strings.Contains(r.stderr, "`pgmedic copy "+second+"` completes the copy") {
		t.Errorf("exit code %d, %q\n%s", r.code, r.stdout, r.stderr)
	}
	if l := b.list(); l.Backups[0].ID != second || l.Backups[0].Copies.Complete != 1 || l.Backups[0].Copies.Unknown != 1 || l.CopyStores[0].Error == "" {
		t.Errorf("while nobody knows: %+v", l)
	}
	if r := b.run("copy"); r.code != 12 {
		t.Errorf("copy: exit code %d\n%s", r.code, r.stderr)
	}
	s3.Restart("", "")
	if l := b.list(); l.Backups[0].Copies.Complete != 1 || l.Backups[0].Copies.Unknown != 0 || l.Backups[1].Copies.Complete != 2 {
		t.Errorf("degraded: %+v", l)
	}
	b.ok("copy")
	if l := b.list(); l.Backups[0].Copies.Complete != 2 {
		t.Errorf("completed: %+v", l)
	}

	// The folder is gone, the bucket is all there is.
	if err := os.RemoveAll(b.store); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "PGMEDIC_IDENTITY_FILES="+identity)
	if r := b.run("list"); r.code != 10 {
		t.Errorf("list of no folder: exit code %d", r.code)
	}
	if l := b.list("--store", "cloud"); len(l.Backups) != 2 || l.Backups[0].Copies.Wanted != 1 {
		t.Errorf("the copies: %+v", l)
	}
	b.ok("verify", "--all", "--store", "cloud")
	b.ok("restore", "latest", "--store", "s3://"+bucket+"/clinic", "--into", b.database+"_copy", "--yes")
	const rows = "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM patients p"
	if got, want := query(t, b.database+"_copy", rows), query(t, b.database, rows); !slices.Equal(got, want) {
		t.Error("the copy has other rows")
	}
	// And back into a folder again.
	b.ok("copy", "--all", "--store", "cloud", "--to", b.store)
	if l := b.list(); len(l.Backups) != 2 || l.Backups[0].Proof.State != "verified" || l.Backups[0].Copies.Complete != 2 {
		t.Errorf("back: %+v", l)
	}
}

// TestCopyInterrupted stops a copy in the middle: the backup stands, no copy is
// listed, and the next run completes it.
func TestCopyInterrupted(t *testing.T) {
	s3 := s3test.Start(t, s3test.Options{})
	b := newBench(t, patients("400000")...)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	bucket := s3.Bucket()
	to := "s3://" + bucket
	b.env = append(b.env, "PGMEDIC_S3_ENDPOINT="+s3.Endpoint, "PGMEDIC_S3_PATH_STYLE=true")
	b.env = append(b.env, s3.Environ()...)

	running, wire := b.startNarrow(s3, bucket, "copy", "--to", to)
	running.signal(syscall.SIGTERM)
	wire.heal() // what it holds back of a part would arrive long after the upload was aborted
	if r := running.wait(time.Minute); r.code != 130 || r.stdout != "" {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if n := len(s3.Uploads(bucket)); n > 0 {
		t.Errorf("%d uploads are left open", n)
	}
	if l := b.list("--store", to); len(l.Backups) != 0 {
		t.Errorf("half a copy is listed: %+v", l)
	}
	b.ok("copy", "--to", to)
	if l := b.list("--store", to); len(l.Backups) != 1 || l.Backups[0].ID != id {
		t.Errorf("the copy: %+v", l)
	}
	b.ok("verify", id, "--store", to)
}

// TestTwoHosts has two programs back up into one prefix at the same time, by one
// server's name.
func TestTwoHosts(t *testing.T) {
	s3 := s3test.Start(t, s3test.Options{})
	for _, place := range testkit.SomeOf(t, 1, []string{"folder", "bucket"}) {
		t.Run(place, func(t *testing.T) {
			one, two := newBench(t, patients("20000")...), newBench(t, patients("20000")...)
			one.env = append(one.env, "PGMEDIC_SERVER=main")
			if place == "bucket" {
				bucket := one.inBucket(s3)
				two.env = append(two.env, "PGMEDIC_STORE=s3://"+bucket+"/db/backups", "PGMEDIC_S3_ENDPOINT="+s3.Endpoint, "PGMEDIC_S3_PATH_STYLE=true")
				two.env = append(two.env, s3.Environ()...)
			}
			two.env = append(two.env, "PGMEDIC_SERVER=main", "BACKUP_DIR="+one.store)
			const rounds = 2
			var ids []string
			for range rounds {
				a, b := one.start("backup", "-q"), two.start("backup", "-q", "--method", "parallel")
				for _, c := range []*child{a, b} {
					r := c.wait(2 * time.Minute)
					if r.code != 0 {
						t.Fatalf("exit code %d\n%s", r.code, r.stderr)
					}
					ids = append(ids, strings.TrimSpace(r.stdout))
				}
			}
			l := one.list()
			if len(l.Backups) != 2*rounds {
				t.Fatalf("%d backups are listed: %+v", len(l.Backups), l)
			}
			for _, b := range l.Backups {
				if !slices.Contains(ids, b.ID) {
					t.Errorf("%s is nobody's", b.ID)
				}
			}
			for i, b := range []*bench{one, two} {
				var shown struct{ Backup struct{ ID string } }
				if err := json.Unmarshal([]byte(b.ok("show", "latest", "--json")), &shown); err != nil || shown.Backup.ID != ids[2*(rounds-1)+i] {
					t.Errorf("latest is %s, want %s: %v", shown.Backup.ID, ids[2*(rounds-1)+i], err)
				}
			}
			one.ok("verify", "--all")
		})
	}
}

// TestSampleRuns reads samples until everything was read.
func TestSampleRuns(t *testing.T) {
	b := newBench(t, patients("5000")...)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	if out := b.ok("show", id); strings.Contains(out, "sampled") {
		t.Errorf("before any sample:\n%s", out)
	}
	var receipt struct {
		Receipts []struct {
			Proof  string
			Sample struct {
				Percent   float64
				Objects   int
				OfObjects int `json:"of_objects"`
			}
		}
	}
	if err := json.Unmarshal([]byte(b.ok("verify", "--all", "--sample", "1%", "--json")), &receipt); err != nil {
		t.Fatal(err)
	}
	r := receipt.Receipts[0]
	if r.Proof != "taken" || r.Sample.Percent != 1 || r.Sample.Objects < 1 || r.Sample.Objects >= r.Sample.OfObjects {
		t.Errorf("the receipt is %+v", r)
	}
	if out := b.ok("show", id); !strings.Contains(out, " objects so far") {
		t.Errorf("after one:\n%s", out)
	}
	covered := func() bool {
		var shown struct {
			Sampled struct {
				Objects   int
				OfObjects int `json:"of_objects"`
			}
		}
		if err := json.Unmarshal([]byte(b.ok("show", id, "--json")), &shown); err != nil || shown.Sampled.OfObjects != r.Sample.OfObjects {
			t.Fatalf("show says %+v: %v", shown, err)
		}
		return shown.Sampled.Objects == r.Sample.OfObjects
	}
	runs := 1
	for !covered() {
		if runs++; runs > r.Sample.OfObjects {
			t.Fatalf("after %d runs of %d objects:\n%s", runs, r.Sample.OfObjects, b.ok("show", id))
		}
		if out := b.ok("verify", "--all", "--sample", "1%"); !strings.HasPrefix(out, "sampled: backup "+id) {
			t.Errorf("verify says:\n%s", out)
		}
	}
	if out := b.ok("show", id); !strings.Contains(out, fmt.Sprintf(" all %d objects", r.Sample.OfObjects)) {
		t.Errorf("after %d runs:\n%s", runs, out)
	}
	if l := b.list(); l.Backups[0].Proof.State != "taken" {
		t.Errorf("samples made it %s", l.Backups[0].Proof.State)
	}
	for _, bad := range []string{"0", "5 percent", "101%", "-3%", "x"} {
		if r := b.run("verify", "latest", "--sample="+bad); r.code != 2 || !strings.Contains(r.stderr, "hint: ") {
			t.Errorf("--sample=%s: exit code %d\n%s", bad, r.code, r.stderr)
		}
	}
}
