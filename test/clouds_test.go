package test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/pgmedic/pgmedic/internal/store/azuretest"
	"github.com/pgmedic/pgmedic/internal/store/gcstest"
)

// inCloud does the whole job with a store in a cloud, then with a copy there by the
// names that deployments have.
func inCloud(t *testing.T, place string, access, cloud []string) {
	b := newBench(t, patients("50000")...)
	b.env = append(b.env, access...)
	inStore := append(slices.Clone(b.env), "PGMEDIC_STORE="+place)
	first := b.env
	const rows = "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM patients p"
	want := query(t, b.database, rows)

	b.env = inStore
	if out := b.ok("check"); !strings.Contains(out, place+" at http://127.0.0.1:") || !strings.Contains(out, "refuses to overwrite") {
		t.Errorf("check says:\n%s", out)
	}
	id := strings.TrimSpace(b.ok("backup", "-q"))
	if l := b.list(); len(l.Backups) != 1 || l.Backups[0].ID != id {
		t.Errorf("listed: %+v", l)
	}
	b.ok("verify", id)
	b.ok("drill", id)
	b.ok("restore", "latest", "--into", b.database+"_copy", "--yes")
	if got := query(t, b.database+"_copy", rows); !slices.Equal(got, want) {
		t.Error("the copy has other rows")
	}
	// Out of the cloud into a folder.
	b.ok("copy", "--all", "--to", b.store)
	if len(b.manifests()) != 1 {
		t.Errorf("the folder has %q", b.manifests())
	}

	// A folder, and a copy in the cloud.
	b.env = append(slices.Clone(first), cloud...)
	if out := b.ok("check"); !strings.Contains(out, "copy              cloud, ") {
		t.Errorf("check says:\n%s", out)
	}
	second := strings.TrimSpace(b.ok("backup", "-q"))
	if l := b.list("--store", "cloud"); len(l.Backups) != 1 || l.Backups[0].ID != second {
		t.Errorf("the copies: %+v", l)
	}
	if err := os.RemoveAll(b.store); err != nil {
		t.Fatal(err)
	}
	b.ok("verify", "--all", "--store", "cloud")
	b.ok("restore", second, "--store", "cloud", "--into", b.database+"_again", "--yes")
	if got := query(t, b.database+"_again", rows); !slices.Equal(got, want) {
		t.Error("what came back from the copy has other rows")
	}
}

// TestAzure does the whole job with a container of Azure Blob Storage.
func TestAzure(t *testing.T) {
	server := azuretest.Start(t)
	name := server.Container()
	inCloud(t, "azblob://"+name+"/db/backups",
		[]string{"AZURE_STORAGE_CONNECTION_STRING=" + server.ConnectionString(), "BACKUP_METHOD=parallel"},
		[]string{"CLOUD_STORAGE_ENABLED=true", "CLOUD_STORAGE_PROVIDER=azure", "AZURE_STORAGE_CONTAINER=" + name + "/copies"})
}

// TestGCS does the whole job with a bucket of Google Cloud Storage.
func TestGCS(t *testing.T) {
	server := gcstest.Start(t)
	name := server.Bucket()
	inCloud(t, "gs://"+name+"/db/backups",
		[]string{"PGMEDIC_GCS_ENDPOINT=" + server.Endpoint, "GOOGLE_APPLICATION_CREDENTIALS=" + server.Credentials(true), "BACKUP_METHOD=plain"},
		[]string{"CLOUD_STORAGE_ENABLED=true", "CLOUD_STORAGE_PROVIDER=gcp", "GCP_BUCKET=" + name + "/copies"})
}

// TestKeptAfterDeletion: check says of a store that it keeps what is deleted, and of one
// that it was not checked.
func TestKeptAfterDeletion(t *testing.T) {
	server := gcstest.Start(t)
	b := newBench(t)
	b.env = append(b.env, "PGMEDIC_GCS_ENDPOINT="+server.Endpoint, "GOOGLE_APPLICATION_CREDENTIALS="+server.Credentials(true))
	const kept, unchecked = "deleted objects are kept for a time", "was not checked"
	for bucket, keeps := range map[string]bool{server.Bucket(): false, server.VersionedBucket(): true} {
		r := b.run("check", "--store", "gs://"+bucket)
		if out := r.stdout; r.code != 0 || strings.Contains(out, kept) != keeps || strings.Contains(out, unchecked) {
			t.Errorf("keeps: %v, exit code %d\n%s", keeps, r.code, out)
		}
	}
	server.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("versions") == "" {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	if r := b.run("check", "--store", "gs://"+server.Bucket()); !strings.Contains(r.stdout, unchecked) || strings.Contains(r.stdout, kept) {
		t.Errorf("refused: exit code %d\n%s", r.code, r.stdout)
	}
}

// refused runs commands that must end with an exit code, one line that has these words,
// and a hint, and without secrets.
func (b *bench) refused(name string, code int, env []string, secrets []string, words ...string) {
	b.t.Helper()
	before := b.env
	defer func() { b.env = before }()
	b.env = append(slices.Clone(before), env...)
	for _, command := range [][]string{{"list"}, {"backup"}, {"restore", "latest", "--into", b.database + "_no", "--yes"}} {
		r := b.run(command...)
		lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
		i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "error: ") })
		if r.code != code || i < 0 || i+2 != len(lines) || !strings.HasPrefix(lines[i+1], "hint: ") {
			b.t.Errorf("%s, %s: exit code %d, want %d\n%s", name, command[0], r.code, code, r.stderr)
			continue
		}
		for _, word := range words {
			if !strings.Contains(lines[i]+lines[i+1], word) {
				b.t.Errorf("%s, %s says nothing of %s\n%s", name, command[0], word, r.stderr)
			}
		}
		for _, secret := range secrets {
			if strings.Contains(r.stderr+r.stdout, secret) {
				b.t.Errorf("%s, %s: a secret is shown\n%s", name, command[0], r.stderr)
			}
		}
	}
}

func TestAzureRefused(t *testing.T) {
	server := azuretest.Start(t)
	name := server.Container()
	b := newBench(t)
	b.env = append(b.env, "PGMEDIC_STORE=azblob://"+name+"/x", "PGMEDIC_AZURE_ENDPOINT="+server.Endpoint, "AZURE_STORAGE_ACCOUNT="+server.Account)
	const wrong = "Q0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZ"
	b.refused("wrong key", 12, []string{"AZURE_STORAGE_KEY=" + wrong}, []string{wrong}, "AuthorizationFailure", "docs/stores.md")
	b.refused("no key", 2, []string{"AZURE_STORAGE_KEY=CANARY!"}, []string{"CANARY"}, "AZURE_STORAGE_KEY")
	b.refused("no container", 2, []string{"AZURE_STORAGE_KEY=" + server.Key, "PGMEDIC_STORE=azblob://nothing-here"}, []string{server.Key}, "ContainerNotFound", "make the container")
	expired := server.SAS(name, sas.ContainerPermissions{Read: true, List: true, Create: true}, time.Now().Add(-time.Hour))
	_, signature, _ := strings.Cut(expired, "sig=")
	signature, _, _ = strings.Cut(signature, "&")
	b.refused("expired", 12, []string{"AZURE_STORAGE_SAS_TOKEN=" + expired}, []string{expired, signature}, "expired at", "AZURE_STORAGE_SAS_TOKEN")
	b.refused("no address", 2, []string{"PGMEDIC_STORE=azblob://" + name + "?sig=CANARY"}, []string{"CANARY"}, "azblob://container/prefix")
	b.refused("azure", 2, []string{"PGMEDIC_STORE=azure://" + name}, nil, "azblob://container/prefix")
	b.refused("no container's name", 2, []string{"AZURE_STORAGE_KEY=" + server.Key, "PGMEDIC_STORE=azblob://Big_Name"}, []string{server.Key}, "3 to 63")
	b.refused("connection string", 2, []string{"AZURE_STORAGE_CONNECTION_STRING=AccountKey"}, nil, "AZURE_STORAGE_CONNECTION_STRING")
	b.refused("unencrypted identity", 2, nil, nil, "https")
	signed := server.SAS(name, sas.ContainerPermissions{Read: true, List: true, Create: true}, time.Now().Add(time.Hour))
	server.Stop()
	b.refused("nobody answers", 12, []string{"AZURE_STORAGE_SAS_TOKEN=" + signed}, []string{signed, "sig="}, "backup.azure.endpoint")
}

func TestGCSRefused(t *testing.T) {
	server := gcstest.Start(t)
	b := newBench(t)
	b.env = append(b.env, "PGMEDIC_STORE=gs://"+server.Bucket(), "PGMEDIC_GCS_ENDPOINT="+server.Endpoint)
	right := "GOOGLE_APPLICATION_CREDENTIALS=" + server.Credentials(true)
	b.refused("wrong key", 12, []string{"GOOGLE_APPLICATION_CREDENTIALS=" + server.Credentials(false)}, []string{"PRIVATE KEY"}, "no token", "GOOGLE_APPLICATION_CREDENTIALS")
	b.refused("no file", 2, []string{"GOOGLE_APPLICATION_CREDENTIALS=" + filepath.Join(b.dir, "nothing")}, nil, "GOOGLE_APPLICATION_CREDENTIALS")
	other := filepath.Join(b.dir, "other.json")
	if err := os.WriteFile(other, []byte(`{"password":"CANARY"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.refused("another file", 2, []string{"GOOGLE_APPLICATION_CREDENTIALS=" + other}, []string{"CANARY"}, "GOOGLE_APPLICATION_CREDENTIALS")
	b.refused("no bucket", 2, []string{right, "PGMEDIC_STORE=gs://nothing-here"}, nil, "the bucket does not exist", "make the bucket")
	b.refused("no address", 2, []string{right, "PGMEDIC_STORE=gs://user:CANARY@bucket"}, []string{"CANARY"}, "gs://bucket/prefix")
	b.refused("gcs", 2, []string{right, "PGMEDIC_STORE=gcs://bucket"}, nil, "gs://bucket/prefix")
	b.refused("class", 2, []string{right, "PGMEDIC_GCS_STORAGE_CLASS=cold"}, nil, "standard, nearline, coldline, archive")
}
