package config_test

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
)

// TestParseObject: an object is reached as the configured store that it lies in or beside.
func TestParseObject(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", `
backup:
  store: s3://main/backups
  s3: {region: main-1}
  azure: {account: ours}
copies:
  - {name: near, store: "s3://copies/near", s3: {region: near-1}}
  - {name: nearer, store: "s3://copies/near/er", s3: {region: nearer-1}}
  - {name: host, store: "sftp://backup@nas.example/srv/copies", sftp: {connections: 7}}
`)
	cfg := load(t, config.Options{Dir: dir})
	for text, want := range map[string]struct {
		place       config.Place
		name        string
		region      string
		connections int
	}{
		"s3://main/old/clinic.sql.gz":         {config.Place{Cloud: config.CloudS3, Bucket: "main", Prefix: "old"}, "clinic.sql.gz", "main-1", 4},
		"s3://other/clinic.sql":               {config.Place{Cloud: config.CloudS3, Bucket: "other"}, "clinic.sql", "main-1", 4},
		"s3://copies/clinic #1?.sql":          {config.Place{Cloud: config.CloudS3, Bucket: "copies"}, "clinic #1?.sql", "near-1", 4},
		"s3://copies/near/x/a.sql":            {config.Place{Cloud: config.CloudS3, Bucket: "copies", Prefix: "near/x"}, "a.sql", "near-1", 4},
		"s3://copies/near/er/a.sql":           {config.Place{Cloud: config.CloudS3, Bucket: "copies", Prefix: "near/er"}, "a.sql", "nearer-1", 4},
		"s3://copies/near/errors/a.sql":       {config.Place{Cloud: config.CloudS3, Bucket: "copies", Prefix: "near/errors"}, "a.sql", "near-1", 4},
		"azblob://copies/near/er/a.sql":       {config.Place{Cloud: config.CloudAzure, Bucket: "copies", Prefix: "near/er"}, "a.sql", "main-1", 4},
		"gs://bucket/a.dump":                  {config.Place{Cloud: config.CloudGCS, Bucket: "bucket"}, "a.dump", "main-1", 4},
		"sftp://backup@nas.example/old/a.sql": {config.Place{User: "backup", Host: "nas.example", Port: 22, Path: "/old"}, "a.sql", "", 7},
		"sftp://u@nas.example/a%20b/c%20d":    {config.Place{User: "u", Host: "nas.example", Port: 22, Path: "/a b"}, "c d", "main-1", 4},
	} {
		o, err := cfg.ParseObject(text)
		if err != nil || o.Place != want.place || o.Name != want.name {
			t.Errorf("%s: %+v %q, %v", text, o.Place, o.Name, err)
			continue
		}
		if o.Access.S3.Region != want.region || o.Access.SFTP.Connections != want.connections {
			t.Errorf("%s: region %q, %d connections", text, o.Access.S3.Region, o.Access.SFTP.Connections)
		}
	}
	for _, text := range []string{
		"", "s3://", "s3://bucket", "s3://bucket/", "s3:///a.sql", "s3://id:hunter2@bucket/a.sql", "S3://bucket/a.sql", "azure://c/a.sql",
		"ftp://host/hunter2", "sftp://u:hunter2@host/a/b.sql", "sftp://u:hunter2@host", "sftp://host/a/b", "sftp://u@host/b.sql",
		"sftp://u@host/a/b?x=hunter2", "sftp://u@host/a/b%2fhunter2", "sftp://u@host/a/",
	} {
		_, err := cfg.ParseObject(text)
		if err == nil || pgmedic.KindOf(err) != pgmedic.KindUsage || strings.Contains(err.Error(), "hunter2") || strings.Contains(pgmedic.HintOf(err), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
