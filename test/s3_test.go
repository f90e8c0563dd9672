package test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// patients fills a table with rows that hardly compress: some 10 MB a 100,000.
func patients(rows string) []string {
	return []string{
		"CREATE TABLE patients (id int PRIMARY KEY, name text, notes text)",
		"INSERT INTO patients SELECT i, 'patient ' || i, md5(random()::text) || md5(random()::text) || md5(random()::text) FROM generate_series(1, " + rows + ") AS i",
	}
}

// inBucket has the program keep backups in a new bucket, and returns its name.
func (b *bench) inBucket(s3 *s3test.Server) string {
	b.t.Helper()
	bucket := s3.Bucket()
	b.env = append(b.env, "PGMEDIC_STORE=s3://"+bucket+"/db/backups", "PGMEDIC_S3_ENDPOINT="+s3.Endpoint,
		"PGMEDIC_S3_PATH_STYLE=true", "PGMEDIC_S3_CA_FILE="+s3.CACertFile)
	b.env = append(b.env, s3.Environ()...)
	return bucket
}

// TestS3 does the whole job with a bucket, over TLS, in both ways to back up.
func TestS3(t *testing.T) {
	s3 := s3test.Start(t, s3test.Options{TLS: true})
	for _, method := range testkit.SomeOf(t, 1, []string{"plain", "parallel"}) {
		t.Run(method, func(t *testing.T) {
			b := newBench(t, patients("100000")...)
			b.env = append(b.env, "BACKUP_METHOD="+method)
			bucket := b.inBucket(s3)
			if out := b.ok("check"); !strings.Contains(out, "s3://"+bucket+"/db/backups at https://127.0.0.1:") || !strings.Contains(out, "refuses to overwrite") {
				t.Errorf("check says:\n%s", out)
			}
			id := strings.TrimSpace(b.ok("backup", "-q"))
			b.ok("verify", id)
			if !contains(s3.Objects(bucket), "/"+id+"/manifest.json") {
				t.Errorf("the bucket has %q", s3.Objects(bucket))
			}
			b.ok("drill", id)
			b.ok("restore", id, "--into", b.database+"_copy", "--yes")
			want := query(t, b.database, "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM patients p")
			if got := query(t, b.database+"_copy", "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM patients p"); !slices.Equal(got, want) {
				t.Error("the copy has other rows")
			}
			// A flag says where, whatever the environment does; a URL is no path.
			if out := b.ok("list", "-q", "--store", "s3://"+bucket+"/db/backups/"); strings.TrimSpace(out) != id {
				t.Errorf("list says %q", out)
			}
			// Credentials count in .env, too.
			var secrets []string
			all := b.env
			b.env = slices.DeleteFunc(slices.Clone(all), func(pair string) bool {
				secret := strings.HasPrefix(pair, "AWS_ACCESS_KEY_ID=") || strings.HasPrefix(pair, "AWS_SECRET_ACCESS_KEY=")
				if secret {
					secrets = append(secrets, pair)
				}
				return secret
			})
			if r := b.run("list", "-q"); r.code != 12 {
				t.Errorf("without credentials: exit code %d", r.code)
			}
			put(t, filepath.Join(b.dir, ".env"), []byte(strings.Join(secrets, "\n")+"\n"))
			if out := b.ok("list", "-q"); strings.TrimSpace(out) != id {
				t.Errorf("with credentials in .env, list says %q", out)
			}
			b.env = all
			if r := b.run("list", "-q", "--store", "./elsewhere"); r.code != 10 || r.stdout != "" {
				t.Errorf("another folder: exit code %d, %q", r.code, r.stdout)
			}
			if found := b.manifests(); len(found) > 0 {
				t.Errorf("also in the folder: %q", found)
			}
		})
	}
}

// TestS3Rescue brings one table back out of a bucket, over a proxy that counts
// what is read: of the packs the table's own bytes, and not one more.
func TestS3Rescue(t *testing.T) {
	s3 := s3test.Start(t, s3test.Options{})
	b := newBench(t, append(patients("30000"), "CREATE TABLE notes AS SELECT n AS id, md5(n::text) AS note FROM generate_series(1, 2000) AS n")...)
	b.env = append(b.env, "BACKUP_METHOD=parallel")
	b.inBucket(s3)
	id := strings.TrimSpace(b.ok("backup", "-q"))

	upstream, err := url.Parse(s3.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var packs, others atomic.Int64
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { // the signature covers the host
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = upstream.Scheme, upstream.Host, r.In.Host
		},
		ModifyResponse: func(r *http.Response) error {
			n := &others
			if strings.Contains(r.Request.URL.Path, "/pack-") {
				n = &packs
			}
			r.Body = fixture.Closing{Closer: r.Body, Reader: io.TeeReader(r.Body, counter{n})}
			return nil
		},
	})
	t.Cleanup(proxy.Close)
	b.env = append(b.env, "PGMEDIC_S3_ENDPOINT="+proxy.URL)
	var told struct {
		Schema      string `json:"schema"`
		FetchBytes  int64  `json:"fetch_bytes"`
		StoredBytes int64  `json:"stored_bytes"`
	}
	if err := json.Unmarshal([]byte(b.ok("restore", id, "--table", "notes", "--json")), &told); err != nil {
		t.Fatal(err)
	}
	if packs.Load() != told.FetchBytes || told.FetchBytes == 0 || told.FetchBytes*20 > told.StoredBytes {
		t.Errorf("%d bytes of packs came, it says %d of %d", packs.Load(), told.FetchBytes, told.StoredBytes)
	}
	// The list of the backups and the manifest; not the backup once more.
	if others.Load() > told.StoredBytes/10 {
		t.Errorf("%d bytes came of other objects", others.Load())
	}
	if n := query(t, b.database, "SELECT count(*)::text FROM notes JOIN "+told.Schema+".notes AS r USING (id, note)"); n[0] != "2000" {
		t.Errorf("%s notes are back", n[0])
	}
}

// counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// startNarrow starts the program with a way to S3 that is so narrow that there is a midway on
// the fastest machine, and waits until an upload is under way of which parts have passed.
func (b *bench) startNarrow(s3 *s3test.Server, bucket string, args ...string) (*child, *wire) {
	b.t.Helper()
	w := newWire(b.t, strings.TrimPrefix(s3.Endpoint, "http://"))
	direct := b.env
	b.env = append(slices.Clone(direct), "PGMEDIC_S3_ENDPOINT=http://"+net.JoinHostPort("127.0.0.1", w.port))
	running := b.start(args...)
	b.env = direct
	w.after(1<<20, running)
	testkit.Eventually(b.t, time.Minute, "an upload is under way", func() bool { return len(s3.Uploads(bucket)) > 0 })
	return running, w
}

// TestS3Refused takes the credentials away before a backup and in the middle.
func TestS3Refused(t *testing.T) {
	s3 := s3test.Start(t, s3test.Options{})
	b := newBench(t, patients("400000")...)
	bucket := b.inBucket(s3)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	before := b.env
	oldKey, oldSecret := s3.AccessKey, s3.SecretKey

	refused := func(r result) {
		t.Helper()
		if r.code != 12 || !strings.Contains(r.stderr, "hint: ") || !strings.Contains(r.stderr, "credentials") {
			t.Errorf("exit code %d\n%s", r.code, r.stderr)
		}
		if strings.Contains(r.stderr+r.stdout, oldSecret) || strings.Contains(r.stderr+r.stdout, s3.SecretKey) {
			t.Errorf("a secret is printed:\n%s%s", r.stdout, r.stderr)
		}
	}
	running, _ := b.startNarrow(s3, bucket, "backup")
	s3.Restart("another", "anothersecret")
	refused(running.wait(2 * time.Minute))
	for _, args := range [][]string{{"backup"}, {"list"}, {"verify", id}, {"check"}} {
		if r := b.run(args...); args[0] == "check" {
			if r.code != 12 {
				t.Errorf("check: exit code %d\n%s", r.code, r.stdout)
			}
		} else {
			refused(r)
		}
	}

	b.env = append(slices.Clone(before), s3.Environ()...)
	var listing struct {
		Backups []struct{ ID string } `json:"backups"`
	}
	if out := b.ok("list", "--json"); json.Unmarshal([]byte(out), &listing) != nil || len(listing.Backups) != 1 || listing.Backups[0].ID != id {
		t.Errorf("list says %s", out)
	}
	s3.Restart(oldKey, oldSecret)
	b.env = before
	b.ok("verify", id)
	b.ok("backup", "-q")
}
