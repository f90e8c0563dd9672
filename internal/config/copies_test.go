package config_test

import (
	"path/filepath"
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
	if far.Name != "offsite" || far.Place() != (config.Place{Bucket: "far", Prefix: "clinic"}) {
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
		if c.Name != "cloud" || c.Place() != (config.Place{Bucket: "records", Prefix: "clinic"}) || c.S3.Endpoint != "https://s3.example" {
			t.Errorf("%s: %s in %+v at %s", bucket, c.Name, c.Place(), c.S3.Endpoint)
		}
	}
	if cfg := load(t, config.Options{Dir: t.TempDir(), Environ: []string{"AWS_S3_BUCKET=records"}}); len(cfg.Copies) != 0 {
		t.Errorf("not asked for: %+v", cfg.Copies)
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
	for _, text := range []string{"s3://main/clinic", "gs://x/y", "s3://", "~/x", "s3:/b/c", "ofsite", "folder"} {
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
		"a bad store":    {"copies:\n  - store: gs://b/c\n", nil, "pgmedic.yaml:2: copies.store must be a folder or begin with s3://"},
		"a bad name":     {"copies:\n  - name: a/b\n    store: /x\n", nil, "copies.name must be 1 to 63 letters"},
		"a bad number":   {"copies:\n  - store: s3://b/c\n    s3:\n      part_size_mib: 1\n", nil, "pgmedic.yaml:4: copies.s3.part_size_mib must be"},
		"a name twice":   {"copies:\n  - name: a\n    store: /x\n  - name: a\n    store: /y\n", nil, "has the name or the store of another copy"},
		"a store twice":  {"copies:\n  - name: a\n    store: /x\n  - name: b\n    store: /x\n", nil, "has the name or the store of another copy"},
		"the store":      {"backup:\n  store: /x\ncopies:\n  - store: /x/\n", nil, "is the store that backups go to anyway"},
		"the cloud":      {"", []string{"CLOUD_STORAGE_ENABLED=1", "AWS_S3_BUCKET=b", "PGMEDIC_STORE=s3://b"}, "is the store that backups go to anyway"},
		"a bucket":       {"", []string{"AWS_S3_BUCKET=a bucket"}, "AWS_S3_BUCKET is not a bucket's name"},
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
