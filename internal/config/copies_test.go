package config_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
)

const twoCopies = `backup:
  store: s3://main/clinic
  s3:
    endpoint: https://main.example
copies:
  - name: offsite
    store: s3://far/clinic
    s3:
      endpoint: https://far.example
      path_style: true
      part_size_mib: 16
  - store: disk/copies
`

// TestCopies reads the list of copies, each with settings of its own.
func TestCopies(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", twoCopies)
	cfg := load(t, config.Options{Dir: dir, Environ: []string{"PGMEDIC_S3_PATH_STYLE=false"}})
	if len(cfg.Copies) != 2 {
		t.Fatalf("%d copies", len(cfg.Copies))
	}
	far, disk := cfg.Copies[0], cfg.Copies[1]
	if far.Name != "offsite" || far.Place() != (config.Place{Cloud: config.CloudS3, Bucket: "far", Prefix: "clinic"}) {
		t.Errorf("the first is %s in %+v", far.Name, far.Place())
	}
	if s := far.S3; s.Endpoint != "https://far.example" || !s.PathStyle || s.PartSizeMiB != 16 || s.Concurrency != 2 || s.ServerSideEncryption != "default" {
		t.Errorf("the first is reached by %+v", s)
	}
	if want := filepath.Join(dir, "disk", "copies"); disk.Place() != (config.Place{Dir: want}) || disk.Name != want || disk.S3.Endpoint != "" {
		t.Errorf("the second is %s in %+v", disk.Name, disk.Place())
	}
	if v := value(t, cfg, "copies[0].s3.endpoint"); v.Value != "https://far.example" || v.Origin.String() != "file pgmedic.yaml:6" {
		t.Errorf("shown as %q from %s", v.Value, v.Origin)
	}
}

// TestStoreByCopy reads from a copy: by its name or place it is reached as it is
// configured, and is no copy of itself.
func TestStoreByCopy(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", twoCopies)
	for _, name := range []string{"offsite", "s3://far/clinic", "s3://far/clinic/"} {
		cfg := load(t, config.Options{Dir: dir, Flags: []config.Flag{{Key: "backup.store", Name: "--store", Value: name}}})
		if cfg.Backup.Place().Bucket != "far" || cfg.Backup.S3.Endpoint != "https://far.example" || len(cfg.Copies) != 1 {
			t.Errorf("%s: %+v at %q with %d copies", name, cfg.Backup.Place(), cfg.Backup.S3.Endpoint, len(cfg.Copies))
		}
	}
	for source, o := range map[string]config.Options{
		"PGMEDIC_STORE": {Environ: []string{"PGMEDIC_STORE=ofsite"}},
		"--store":       {Flags: []config.Flag{{Key: "backup.store", Name: "--store", Value: "ofsite"}}},
	} {
		o.Dir = dir
		_, err := config.Load(o)
		if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.HasPrefix(err.Error(), source+" must be a path") || pgmedic.HintOf(err) != "did you mean offsite?" {
			t.Errorf("%s misspelt: %v (%s)", source, err, pgmedic.HintOf(err))
		}
	}
	cfg := load(t, config.Options{Dir: dir, Environ: []string{"PGMEDIC_STORE=offsite"}})
	if cfg.Backup.Place().Bucket != "far" {
		t.Errorf("a name in the environment is %+v", cfg.Backup.Place())
	}
}

func TestCloudStorage(t *testing.T) {
	for _, bucket := range []string{"records/clinic", "s3://records/clinic", "records/clinic/"} {
		cfg := load(t, config.Options{Dir: t.TempDir(), Environ: []string{
			"CLOUD_STORAGE_ENABLED=true", "AWS_S3_BUCKET=" + bucket, "PGMEDIC_S3_ENDPOINT=https://s3.example",
		}})
		if len(cfg.Copies) != 1 {
			t.Fatalf("%s: %d copies", bucket, len(cfg.Copies))
		}
		c := cfg.Copies[0]
		if c.Name != "cloud" || c.Place() != (config.Place{Cloud: config.CloudS3, Bucket: "records", Prefix: "clinic"}) || c.S3.Endpoint != "https://s3.example" {
			t.Errorf("%s: %s in %+v at %s", bucket, c.Name, c.Place(), c.S3.Endpoint)
		}
	}
	for _, test := range []struct {
		environ []string
		store   string
	}{
		{[]string{"CLOUD_STORAGE_PROVIDER=azure", "AZURE_STORAGE_CONTAINER=records/clinic"}, "azblob://records/clinic"},
		{[]string{"CLOUD_STORAGE_PROVIDER=azure", "AZURE_STORAGE_CONTAINER=azblob://records"}, "azblob://records"},
		{[]string{"CLOUD_STORAGE_PROVIDER=gcp", "GCP_BUCKET=records"}, "gs://records"},
	} {
		dir := t.TempDir()
		cfg := load(t, config.Options{Dir: dir, Environ: append(test.environ, "CLOUD_STORAGE_ENABLED=true", "AWS_S3_BUCKET=other",
			"AZURE_STORAGE_ACCOUNT=clinic", "AZURE_STORAGE_KEY=hunter2", "GOOGLE_APPLICATION_CREDENTIALS=key.json")})
		if len(cfg.Copies) != 1 {
			t.Fatalf("%s: %d copies", test.store, len(cfg.Copies))
		}
		c := cfg.Copies[0]
		if c.Name != "cloud" || c.Store != test.store || c.Azure.Account != "clinic" || c.Azure.Key.Reveal() != "hunter2" || c.GCS.CredentialsFile != filepath.Join(dir, "key.json") {
			t.Errorf("%s in %s", c.Name, c.Store)
		}
	}
	if cfg := load(t, config.Options{Dir: t.TempDir(), Environ: []string{"AWS_S3_BUCKET=records"}}); len(cfg.Copies) != 0 {
		t.Errorf("not asked for: %+v", cfg.Copies)
	}
}

// TestAccess: each store is reached by its own settings, whichever a flag chose.
func TestAccess(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", `backup:
  store: sftp://u@main/a
  sftp: {identity_file: key, password: env:MAIN}
copies:
  - name: far
    store: sftp://u@far/a
    sftp: {password: env:FAR, connections: 2}
  - name: locked
    store: s3://locked
    object_lock: compliance
    retention: {days: 7d}
`)
	for _, flag := range []string{"", "far", "sftp://u@third/a"} {
		o := config.Options{Dir: dir, Environ: []string{"MAIN=main-secret", "FAR=far-secret"}}
		if flag != "" {
			o.Flags = []config.Flag{{Key: "backup.store", Name: "--store", Value: flag}}
		}
		cfg := load(t, o)
		for host, want := range map[string]string{"main": "main-secret", "far": "far-secret"} {
			place := config.Place{User: "u", Host: host, Port: 22, Path: "/a"}
			got := cfg.Backup.SFTP
			if i := slices.IndexFunc(cfg.Stores(), func(s config.StoreOf) bool { return s.Place == place }); i < 0 {
				t.Errorf("--store %q: %s is no store", flag, host)
			} else if got = cfg.Stores()[i].Access.SFTP; cfg.Backup.Place() == place && cfg.Backup.SFTP != got {
				t.Errorf("--store %q: it is reached with %+v", flag, cfg.Backup.SFTP)
			}
			if got.Password.Reveal() != want || (got.IdentityFile != "") != (host == "main") || (got.Connections == 2) != (host == "far") {
				t.Errorf("--store %q: %s is reached with %+v", flag, host, got)
			}
		}
		if a, _ := cfg.Locking(config.Place{Cloud: config.CloudS3, Bucket: "locked"}); a.ObjectLock != "compliance" || a.Retention.Days != "7d" {
			t.Errorf("--store %q: locked with %+v", flag, a)
		}
		for _, v := range cfg.Effective() {
			if strings.Contains(v.Value, "-secret") {
				t.Errorf("%s is shown: %s", v.Key, v.Value)
			}
		}
	}
}

// TestLocking: the lock of the store counts in a bucket that is not configured, and a
// folder that is not says that it has none.
func TestLocking(t *testing.T) {
	cfg := load(t, config.Options{Dir: t.TempDir(), Environ: []string{"PGMEDIC_STORE=s3://main", "PGMEDIC_OBJECT_LOCK=Governance"}})
	for place, want := range map[config.Place]string{
		{Bucket: "main"}: "governance", {Bucket: "other"}: "governance", {Dir: "/a"}: "off", {User: "u", Host: "h", Port: 22, Path: "/a"}: "off",
	} {
		if a, unlocked := cfg.Locking(place); a.ObjectLock != want || unlocked != (want == "off") {
			t.Errorf("%+v: %q, %v", place, a.ObjectLock, unlocked)
		}
	}
	_, err := config.Load(config.Options{Dir: t.TempDir(), Environ: []string{"PGMEDIC_OBJECT_LOCK=strict"}})
	if pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("%v", err)
	}
}

func TestParseCopy(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", twoCopies)
	cfg := load(t, config.Options{Dir: dir})
	for text, want := range map[string]string{
		"offsite": "https://far.example", "s3://far/clinic": "https://far.example", "s3://third/x": "https://main.example", "./folder": "https://main.example",
	} {
		if c, err := cfg.ParseCopy(text, dir); err != nil || c.S3.Endpoint != want {
			t.Errorf("%s: %q %v", text, c.S3.Endpoint, err)
		}
	}
	for _, text := range []string{"s3://main/clinic", "gcs://x/y", "s3://", "~/x", "s3:/b/c", "ofsite", "folder"} {
		if _, err := cfg.ParseCopy(text, dir); pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestBadCopies(t *testing.T) {
	for name, test := range map[string]struct {
		file    string
		environ []string
		want    string
	}{
		"no list":        {"copies: s3://b/c\n", nil, "pgmedic.yaml:1: copies must be a list"},
		"no mapping":     {"copies:\n  - s3://b/c\n", nil, "pgmedic.yaml:2: copies must be a mapping"},
		"no store":       {"copies:\n  - name: x\n", nil, "copies has an item without a store"},
		"unknown key":    {"copies:\n  - store: /x\n    stor: /y\n", nil, `pgmedic.yaml:3: unknown key "copies.stor"; did you mean "store"?`},
		"a bad store":    {"copies:\n  - store: gcs://b/c\n", nil, "pgmedic.yaml:2: copies.store must be a folder or begin with s3://, azblob://, gs:// or sftp://"},
		"a bad name":     {"copies:\n  - name: a/b\n    store: /x\n", nil, "copies.name must be 1 to 63 letters"},
		"a bad number":   {"copies:\n  - store: s3://b/c\n    s3:\n      part_size_mib: 1\n", nil, "pgmedic.yaml:4: copies.s3.part_size_mib must be"},
		"a name twice":   {"copies:\n  - name: a\n    store: /x\n  - name: a\n    store: /y\n", nil, "has the name or the store of another copy"},
		"a store twice":  {"copies:\n  - name: a\n    store: /x\n  - name: b\n    store: /x\n", nil, "has the name or the store of another copy"},
		"the store":      {"backup:\n  store: /x\ncopies:\n  - store: /x/\n", nil, "is the store that backups go to anyway"},
		"the cloud":      {"", []string{"CLOUD_STORAGE_ENABLED=1", "AWS_S3_BUCKET=b", "PGMEDIC_STORE=s3://b"}, "is the store that backups go to anyway"},
		"a bucket":       {"", []string{"AWS_S3_BUCKET=a bucket"}, "AWS_S3_BUCKET is not a bucket's name"},
		"a container":    {"", []string{"AZURE_STORAGE_CONTAINER=a container"}, "AZURE_STORAGE_CONTAINER is not a bucket's name"},
		"a bucket, gcp":  {"", []string{"GCP_BUCKET=s3://b"}, "GCP_BUCKET is not a bucket's name"},
		"the container":  {"", []string{"CLOUD_STORAGE_ENABLED=1", "CLOUD_STORAGE_PROVIDER=azure", "AZURE_STORAGE_CONTAINER=con", "PGMEDIC_STORE=azblob://con"}, "is the store that backups go to anyway"},
		"a switch":       {"", []string{"CLOUD_STORAGE_ENABLED=ture"}, "CLOUD_STORAGE_ENABLED must be true or false"},
		"a provider":     {"", []string{"CLOUD_STORAGE_PROVIDER=asw"}, "CLOUD_STORAGE_PROVIDER must be one of aws, azure, gcp"},
		"misspelt above": {"copeis:\n  - store: /x\n", nil, `did you mean "copies"?`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if test.file != "" {
				write(t, dir, "pgmedic.yaml", test.file)
			}
			_, err := config.Load(config.Options{Dir: dir, Environ: test.environ})
			if pgmedic.KindOf(err) != pgmedic.KindUsage || err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestCopyCredentials: a copy without an account or credentials of its own has those of
// the first store, and one that has any has only those.
func TestCopyCredentials(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", `
copies:
  - {name: same, store: "azblob://one"}
  - name: other
    store: azblob://two
    azure: {account: elsewhere, access_tier: cool}
  - name: signed
    store: azblob://three
    azure: {account: elsewhere, sas_token: "env:SIGNATURE"}
  - {name: google, store: "gs://four"}
  - name: file
    store: gs://five
    gcs: {credentials_file: own.json}
`)
	cfg := load(t, config.Options{Dir: dir, Environ: []string{
		"AZURE_STORAGE_ACCOUNT=clinic", "AZURE_STORAGE_KEY=hunter2", "GOOGLE_APPLICATION_CREDENTIALS=/key.json", "SIGNATURE=sig=hunter3",
	}})
	for i, want := range []string{"clinic hunter2 ", "elsewhere  ", "elsewhere  sig=hunter3"} {
		z := cfg.Copies[i].Azure
		if got := z.Account + " " + z.Key.Reveal() + " " + z.SASToken.Reveal(); got != want {
			t.Errorf("%s: %q, want %q", cfg.Copies[i].Name, got, want)
		}
	}
	if a, b := cfg.Copies[3].GCS.CredentialsFile, cfg.Copies[4].GCS.CredentialsFile; a != "/key.json" || b != filepath.Join(dir, "own.json") {
		t.Errorf("credentials in %s and %s", a, b)
	}
	for _, v := range cfg.Effective() {
		if strings.Contains(v.Value, "hunter") {
			t.Errorf("%s is shown as %q", v.Key, v.Value)
		}
	}
}
