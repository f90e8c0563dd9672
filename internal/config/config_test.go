package config_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
)

// write puts a file into dir and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, opts config.Options) *config.Config {
	t.Helper()
	cfg, err := config.Load(opts)
	if err != nil {
		t.Fatalf("Load: %v (hint: %s)", err, pgmedic.HintOf(err))
	}
	return cfg
}

func value(t *testing.T, cfg *config.Config, key string) config.Value {
	t.Helper()
	for _, v := range cfg.Effective() {
		if v.Key == key {
			return v
		}
	}
	t.Fatalf("no setting %s", key)
	return config.Value{}
}

func TestDefaults(t *testing.T) {
	dir := t.TempDir()
	cfg := load(t, config.Options{Dir: dir})
	if cfg.Database.Host != "localhost" || cfg.Database.Port != 5432 || cfg.Database.ConnectTimeout != 5*time.Second {
		t.Errorf("database defaults: %+v", cfg.Database)
	}
	if want := filepath.Join(dir, "infrastructure/backups/database"); cfg.Backup.Dir != want {
		t.Errorf("backup.dir = %s, want %s", cfg.Backup.Dir, want)
	}
	if cfg.Backup.Method != "parallel" || cfg.Backup.Compression != "zstd" || cfg.Backup.LockTimeout != 30*time.Second || cfg.Backup.MaxDuration != 0 {
		t.Errorf("backup defaults: %+v", cfg.Backup)
	}
	if len(cfg.Warnings) != 0 {
		t.Errorf("warnings: %q", cfg.Warnings)
	}
	for _, v := range cfg.Effective() {
		if got := v.Origin.String(); got != "default" {
			t.Errorf("%s comes from %s", v.Key, got)
		}
	}
}

// TestImplied sees defaults that hang on other settings, and that what is set is
// left alone.
func TestImplied(t *testing.T) {
	for _, tt := range []struct {
		name                string
		environ             []string
		method, compression string
	}{
		{"nothing set", nil, "parallel", "zstd"},
		{"plain", []string{"BACKUP_METHOD=plain"}, "plain", "gzip"},
		{"plain with zstd", []string{"BACKUP_METHOD=plain", "BACKUP_COMPRESSION=zstd"}, "plain", "zstd"},
		{"parallel with gzip", []string{"BACKUP_COMPRESSION=gzip"}, "parallel", "gzip"},
		{"openssl", []string{"BACKUP_ENCRYPTION=aes-256-cbc"}, "plain", "gzip"},
		{"openssl and parallel", []string{"BACKUP_ENCRYPTION=aes-256-cbc", "BACKUP_METHOD=parallel"}, "parallel", "zstd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := load(t, config.Options{Dir: t.TempDir(), Environ: tt.environ})
			if cfg.Backup.Method != tt.method || cfg.Backup.Compression != tt.compression {
				t.Errorf("method %s with %s, want %s with %s", cfg.Backup.Method, cfg.Backup.Compression, tt.method, tt.compression)
			}
		})
	}
}

func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", "# clinic\ndatabase:\n  host: from-file\n")
	write(t, dir, ".env", "DB_HOST=from-dotenv\n")
	file := config.Options{Dir: dir, EnvFile: write(t, dir, "empty.env", "\n")}
	dotenv := config.Options{Dir: dir}
	environ := config.Options{Dir: dir, Environ: []string{"DB_HOST=from-environment"}}
	emptied := config.Options{Dir: dir, Environ: []string{"DB_HOST="}}
	flags := environ
	flags.Flags = []config.Flag{{Key: "database.host", Name: "--host", Value: "from-flag"}}
	for _, tt := range []struct {
		name          string
		opts          config.Options
		value, origin string
	}{
		{"default", config.Options{Dir: t.TempDir()}, "localhost", "default"},
		{"file", file, "from-file", "file pgmedic.yaml:3"},
		{"env file", dotenv, "from-dotenv", ".env DB_HOST"},
		{"environment", environ, "from-environment", "environment DB_HOST"},
		{"empty environment", emptied, "from-dotenv", ".env DB_HOST"},
		{"flag", flags, "from-flag", "flag --host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := value(t, load(t, tt.opts), "database.host")
			if v.Value != tt.value || v.Origin.String() != tt.origin {
				t.Errorf("got %q from %q, want %q from %q", v.Value, v.Origin, tt.value, tt.origin)
			}
		})
	}
}

func TestWhichFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", "server: found\n")
	named := write(t, dir, "etc/named.yaml", "server: named\n")
	write(t, dir, "etc/.env", "DB_NAME=beside\n")
	other := write(t, dir, "etc/other.yaml", "server: other\n")
	for _, tt := range []struct {
		name, file, environ, server, database string
	}{
		{"found", "", "", "found", ""},
		{"PGMEDIC_CONFIG", "", "PGMEDIC_CONFIG=" + other, "other", "beside"},
		{"flag over PGMEDIC_CONFIG", named, "PGMEDIC_CONFIG=" + other, "named", "beside"},
		{"relative to the working folder", "etc/named.yaml", "", "named", "beside"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := load(t, config.Options{Dir: dir, File: tt.file, Environ: []string{tt.environ}})
			if cfg.Server != tt.server || cfg.Database.Name != tt.database {
				t.Errorf("server %q, database %q; want %q, %q", cfg.Server, cfg.Database.Name, tt.server, tt.database)
			}
		})
	}
}

func TestValues(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", `---
server: clinic-1
database:
  port: "5433"
  password: 007
  connect_timeout: 7
postgres:
  bin_dirs:
    - bin
    - /opt/pg/bin
backup:
  compression: ZSTD
  max_duration: 1h30m
  labels: {env: production, tier: 1}
report:
  thresholds:
    cache_hit_warn_percent: 99.5
log:
`)
	cfg := load(t, config.Options{Dir: dir})
	if cfg.Database.Port != 5433 || cfg.Database.Password.Reveal() != "007" || cfg.Database.ConnectTimeout != 7*time.Second {
		t.Errorf("database: %+v, password %q", cfg.Database, cfg.Database.Password.Reveal())
	}
	if want := []string{filepath.Join(dir, "bin"), "/opt/pg/bin"}; !slices.Equal(cfg.Postgres.BinDirs, want) {
		t.Errorf("bin_dirs = %q, want %q", cfg.Postgres.BinDirs, want)
	}
	if cfg.Backup.Compression != "zstd" || cfg.Backup.MaxDuration != 90*time.Minute {
		t.Errorf("backup: %+v", cfg.Backup)
	}
	if want := map[string]string{"env": "production", "tier": "1"}; !maps.Equal(cfg.Backup.Labels, want) {
		t.Errorf("labels = %v, want %v", cfg.Backup.Labels, want)
	}
	if cfg.Report.Thresholds.CacheHitWarnPercent != 99.5 {
		t.Errorf("thresholds: %+v", cfg.Report.Thresholds)
	}
	for key, want := range map[string]string{
		"backup.max_duration": "1h30m", "backup.labels": "env=production, tier=1", "database.password": "•••• (set)",
		"report.thresholds.cache_hit_warn_percent": "99.5", "report.thresholds.idle_in_transaction_warn": "5m",
	} {
		if got := value(t, cfg, key).Value; got != want {
			t.Errorf("%s shows %q, want %q", key, got, want)
		}
	}
}

func TestRelativePaths(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "etc/pgmedic.yaml", "backup: {dir: a}\nreport: {dir: b}\nlog: {file: c}\n")
	list := "d" + string(os.PathListSeparator) + "/e"
	cfg := load(t, config.Options{
		Dir: dir, File: "etc/pgmedic.yaml",
		Environ: []string{"PGMEDIC_REPORT_DIR=b", "PGMEDIC_POSTGRES_DIRS=" + list},
		Flags:   []config.Flag{{Key: "log.file", Name: "--log-file", Value: "c"}},
	})
	got := append([]string{cfg.Backup.Dir, cfg.Report.Dir, cfg.Log.File}, cfg.Postgres.BinDirs...)
	want := []string{filepath.Join(dir, "etc/a"), filepath.Join(dir, "b"), filepath.Join(dir, "c"), filepath.Join(dir, "d"), "/e"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRelativePathsOfEnvFile: a job that starts elsewhere means the same folders.
func TestRelativePathsOfEnvFile(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"BACKUP_DIR=./b\n", "DB_NAME=clinic\n"} {
		want := filepath.Join(dir, "app", "b")
		if !strings.HasPrefix(text, "BACKUP_DIR") {
			want = filepath.Join(dir, "app", "infrastructure/backups/database")
		}
		file := write(t, dir, "app/.env", text)
		for _, o := range []config.Options{{Dir: filepath.Join(dir, "app")}, {Dir: dir, EnvFile: file}, {Dir: dir, EnvFile: "app/.env"}} {
			if got := load(t, o).Backup.Dir; got != want {
				t.Errorf("%q in %s: %s", text, o.Dir, got)
			}
		}
	}
}

// TestDefaultsOfAFile: the same of pgmedic.yaml.
func TestDefaultsOfAFile(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "etc/pgmedic.yaml", "server: clinic\n")
	cfg := load(t, config.Options{Dir: dir, File: file})
	if want := filepath.Join(dir, "etc", "infrastructure/backups/database"); cfg.Backup.Dir != want {
		t.Errorf("backup.dir = %s, want %s", cfg.Backup.Dir, want)
	}
}

// TestPoolNames: names that only the pool has a use for are known.
func TestPoolNames(t *testing.T) {
	cfg := load(t, config.Options{Dir: t.TempDir(), Environ: []string{"DB_POOL_TIMEOUT=10", "DB_HOST=x"}})
	if got := strings.Join(cfg.PoolNames(), " "); got != "DB_POOL_TIMEOUT" {
		t.Errorf("names of the pool: %s", got)
	}
}

func TestReportHistory(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"history: off": "off", "history: 'no'": "off", "history: false": "off", "history: h.sqlite": filepath.Join(dir, "etc", "h.sqlite"),
		"history: /h.sqlite": "/h.sqlite", "history: ''": "", "history: ./off": filepath.Join(dir, "etc", "off"),
	} {
		write(t, dir, "etc/pgmedic.yaml", "report: {"+text+", server_memory_mb: 64000, server_disk_mb: 2000000}\n")
		cfg := load(t, config.Options{Dir: dir, File: "etc/pgmedic.yaml"})
		if cfg.Report.History != want || cfg.Report.ServerMemoryMB != 64000 || cfg.Report.ServerDiskMB != 2000000 {
			t.Errorf("%s: %+v", text, cfg.Report)
		}
	}
}

func TestNameWarnings(t *testing.T) {
	for _, tt := range []struct {
		name    string
		environ []string
		want    string // empty: no warning
	}{
		{"misspelt", []string{"BACKUP_COMPRESION=zstd"}, "BACKUP_COMPRESION is set but unknown; did you mean BACKUP_COMPRESSION?"},
		{"misspelt of a later one", []string{"BACKUP_RETENTION_DAY=3"}, "did you mean BACKUP_RETENTION_DAYS?"},
		{"far from all", []string{"DB_CHARSET=utf8", "BACKUP_OWNER=x"}, ""},
		{"not ours", []string{"BD_HOST=x"}, ""},
		{"known and not used", []string{"DB_CONNECTION_LIMIT=10", "BACKUP_RETENTION_DAYS=30", "PGMEDIC_CONFIG="}, ""},
		{"notifications to no one", []string{"NOTIFICATION_ENABLED=true"}, "NOTIFICATION_ENABLED asks for notifications, and there is no channel"},
		{"notifications", []string{"NOTIFICATION_ENABLED=true", "NOTIFICATION_EMAIL=dba@clinic.example"}, ""},
		{"no notifications", []string{"NOTIFICATION_ENABLED=false"}, ""},
		{"misspelt notifications", []string{"NOTIFICATION_EMIAL=dba@clinic.example"}, "did you mean NOTIFICATION_EMAIL?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(load(t, config.Options{Dir: t.TempDir(), Environ: tt.environ}).Warnings, "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("warnings %q, want %q", got, tt.want)
			}
		})
	}
}

func TestEnvFileWarnsOfLibpqNames(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, ".env", "PGHOST=db1\n")
	cfg := load(t, config.Options{Dir: dir})
	if len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], "PGHOST has no effect there") {
		t.Errorf("warnings: %q", cfg.Warnings)
	}
	if got := cfg.Connection().Host; got != "localhost" {
		t.Errorf("host = %q", got)
	}
}

func TestCheckBackup(t *testing.T) {
	for _, tt := range []struct {
		name, file, dotenv string
		environ            []string
		want               string // empty: no error
	}{
		{name: "nothing"},
		{name: "empty", dotenv: "BACKUP_ENCRYPTION_KEY=\nCLOUD_STORAGE_ENABLED=false\n", file: "backup:\n  encryption_key: ''\n  recipients: []\n"},
		{name: "switched off", environ: []string{"BACKUP_ENCRYPTION=none", "CLOUD_STORAGE_ENABLED=0"}},
		{name: "key", environ: []string{"BACKUP_ENCRYPTION_KEY=hunter2"}},
		{name: "key in .env", dotenv: "BACKUP_ENCRYPTION_KEY=hunter2\n"},
		{name: "recipients in file", file: "backup:\n  recipients:\n    - age1hunter2\n"},
		{name: "cipher", environ: []string{"BACKUP_ENCRYPTION=aes-256-cbc", "BACKUP_ENCRYPTION_KEY=hunter2"}},
		{name: "cloud without a bucket", environ: []string{"CLOUD_STORAGE_ENABLED=True"}, want: "CLOUD_STORAGE_ENABLED asks for copies in a bucket, and none is named"},
		{name: "azure", environ: []string{"CLOUD_STORAGE_ENABLED=true", "CLOUD_STORAGE_PROVIDER=azure", "AZURE_STORAGE_CONTAINER=c"}},
		{name: "azure with another's bucket", environ: []string{"CLOUD_STORAGE_ENABLED=true", "CLOUD_STORAGE_PROVIDER=azure", "AWS_S3_BUCKET=b"}, want: "CLOUD_STORAGE_ENABLED asks for copies in a bucket, and none is named"},
		{name: "gcp", dotenv: "CLOUD_STORAGE_ENABLED=true\nCLOUD_STORAGE_PROVIDER=gcp\nGCP_BUCKET=b\n"},
		{name: "gcp without a bucket", dotenv: "CLOUD_STORAGE_ENABLED=true\nCLOUD_STORAGE_PROVIDER=gcp\n", want: ".env: CLOUD_STORAGE_ENABLED asks for copies in a bucket, and none is named"},
		{name: "azure, switched off", environ: []string{"CLOUD_STORAGE_PROVIDER=azure"}},
		{name: "disabled in words", environ: []string{"CLOUD_STORAGE_ENABLED=disabled"}},
		{name: "aws", environ: []string{"CLOUD_STORAGE_ENABLED=true", "AWS_S3_BUCKET=b"}},
		{name: "environment switches .env off", dotenv: "CLOUD_STORAGE_ENABLED=true\n", environ: []string{"CLOUD_STORAGE_ENABLED=false"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.file != "" {
				write(t, dir, "pgmedic.yaml", tt.file)
			}
			write(t, dir, ".env", tt.dotenv)
			err := load(t, config.Options{Dir: dir, Environ: tt.environ}).CheckBackup()
			if tt.want == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
				t.Fatalf("err = %v, want %q with KindUsage and a hint", err, tt.want)
			}
			if strings.Contains(err.Error()+pgmedic.HintOf(err), "hunter2") {
				t.Errorf("the error holds the secret: %v", err)
			}
		})
	}
}

// TestSealing reads the settings that say who can open backups.
func TestSealing(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "etc/pgmedic.yaml", `backup:
  method: parallel
  jobs: 3
  encryption: age
  recipients: [age1one, age1two]
  encryption_key: env:PHRASE
  identity_files: [key.txt]
`)
	file := config.Options{Dir: dir, File: "etc/pgmedic.yaml", Environ: []string{"PHRASE=hunter2"}}
	cfg := load(t, file)
	if cfg.Backup.Method != "parallel" || cfg.Backup.Jobs != 3 || cfg.Backup.Encryption != "age" {
		t.Errorf("backup: %+v", cfg.Backup)
	}
	if want := []string{"age1one", "age1two"}; !slices.Equal(cfg.Backup.Recipients, want) {
		t.Errorf("recipients = %q, want %q", cfg.Backup.Recipients, want)
	}
	if cfg.Backup.EncryptionKey.Reveal() != "hunter2" || value(t, cfg, "backup.encryption_key").Value != "•••• (set)" {
		t.Errorf("encryption_key shows %q", value(t, cfg, "backup.encryption_key").Value)
	}
	if want := []string{filepath.Join(dir, "etc", "key.txt")}; !slices.Equal(cfg.Backup.IdentityFiles, want) {
		t.Errorf("identity_files = %q, want %q", cfg.Backup.IdentityFiles, want)
	}
	file.Environ = []string{"BACKUP_RECIPIENTS=age1three, age1four", "BACKUP_ENCRYPTION=none", "BACKUP_METHOD=plain", "PHRASE=x"}
	cfg = load(t, file)
	if want := []string{"age1three", "age1four"}; !slices.Equal(cfg.Backup.Recipients, want) || cfg.Backup.Encryption != "none" || cfg.Backup.Method != "plain" {
		t.Errorf("from the environment: %+v", cfg.Backup)
	}
}

// TestTags holds every setting to having what the documentation needs.
func TestTags(t *testing.T) {
	envs := map[string]string{}
	for _, k := range config.Keys() {
		if k.Doc == "" || !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s has no sentence that documents it", k.Key)
		}
		if k.Env != "" && envs[k.Env] != "" {
			t.Errorf("%s and %s share %s", k.Key, envs[k.Env], k.Env)
		}
		envs[k.Env] = k.Key
	}
	if n := len(config.Keys()); n != len(load(t, config.Options{Dir: t.TempDir()}).Effective()) || n < 25 {
		t.Errorf("%d keys", n)
	}
}

func TestPlace(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "etc/pgmedic.yaml", "backup:\n  dir: a\n  s3: {path_style: yes, part_size_mib: 16, server_side_encryption: AES256}\n")
	for _, tt := range []struct {
		name, environ, flag string
		want                config.Place
	}{
		{"folder", "", "", config.Place{Dir: filepath.Join(dir, "etc/a")}},
		{"bucket", "PGMEDIC_STORE=s3://b", "", config.Place{Cloud: config.CloudS3, Bucket: "b"}},
		{"prefix", "PGMEDIC_STORE=s3://b/c/d/", "", config.Place{Cloud: config.CloudS3, Bucket: "b", Prefix: "c/d"}},
		{"Azure", "PGMEDIC_STORE=azblob://con/c/d", "", config.Place{Cloud: config.CloudAzure, Bucket: "con", Prefix: "c/d"}},
		{"Google", "PGMEDIC_STORE=gs://b/c/", "", config.Place{Cloud: config.CloudGCS, Bucket: "b", Prefix: "c"}},
		{"another folder", "PGMEDIC_STORE=./x", "", config.Place{Dir: filepath.Join(dir, "x")}},
		{"flag", "PGMEDIC_STORE=s3://b", "./y", config.Place{Dir: filepath.Join(dir, "y")}},
		{"another host", "PGMEDIC_STORE=sftp://u@nas/a/b/", "", config.Place{User: "u", Host: "nas", Port: 22, Path: "/a/b"}},
		{"another port", "PGMEDIC_STORE=sftp://u@[::1]:2222/a%20b", "", config.Place{User: "u", Host: "::1", Port: 2222, Path: "/a b"}},
		{"flag with a bucket", "PGMEDIC_STORE=./x", "s3://b/c", config.Place{Cloud: config.CloudS3, Bucket: "b", Prefix: "c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := config.Options{Dir: dir, File: "etc/pgmedic.yaml", Environ: []string{tt.environ}}
			if tt.flag != "" {
				o.Flags = []config.Flag{{Key: "backup.store", Name: "--store", Value: tt.flag}}
			}
			cfg := load(t, o)
			if got := cfg.Backup.Place(); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if s := cfg.Backup.S3; !s.PathStyle || s.PartSizeMiB != 16 || s.Concurrency != 2 || s.ServerSideEncryption != "aes256" {
				t.Errorf("s3: %+v", s)
			}
		})
	}
	for _, bad := range []string{
		"s3://", "s3:///prefix", "s3://b//c", "s3://b/c?region=hunter2", "s3://key:hunter2@b/c", "s3://b c", "https://hunter2/b", "~/backups", "s3:/b", "s3:b", "S3:/b", "azure:b/c", "azure://b/c", "AZBLOB://b/c", "azblob://con?sig=hunter2", "azblob://", "gs://b@hunter2", "gcs://b", "gs:///x", "gs://b//c", "sftp:x", "offsiet", "file:/srv/x",
		"sftp://", "sftp://u@nas", "sftp://u@nas/", "sftp://u@nas/a/..", "sftp://nas/a", "sftp://u:hunter2@nas/a", "sftp://u@nas/a?hunter2", "sftp://u@nas/a#hunter2", "sftp://u@nas:0/a", "sftp://u@nas:hunter2/a", "sftp://u@/a", "sftp:/u@nas/a", "sftp://u@nas/%0a",
	} {
		_, err := config.Load(config.Options{Dir: dir, Environ: []string{"PGMEDIC_STORE=" + bad}})
		if pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v (%s)", bad, err, pgmedic.HintOf(err))
		}
	}
	if _, err := config.Load(config.Options{Dir: dir, Environ: []string{"PGMEDIC_S3_PATH_STYLE=perhaps"}}); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("path style: %v", err)
	}
}
