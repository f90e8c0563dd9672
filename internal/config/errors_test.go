package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// wantUsage checks that err is one line of KindUsage that holds want and not
// the secret hunter2.
func wantUsage(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	if pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("kind %v, want usage", pgmedic.KindOf(err))
	}
	all := err.Error() + " / " + pgmedic.HintOf(err)
	if !strings.Contains(all, want) {
		t.Errorf("error %q, want %q", all, want)
	}
	if strings.Contains(all, "hunter2") {
		t.Errorf("error %q holds the secret", all)
	}
	if strings.Contains(all, "\n") || strings.Contains(all, "%!") {
		t.Errorf("error %q is not one clean line", all)
	}
}

func TestFileErrors(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"misspelt key", "# a\nbackup:\n  compresion: gzip\n", `pgmedic.yaml:3: unknown key "backup.compresion"; did you mean "compression"?`},
		{"misspelt section", "databse:\n  host: x\n", `pgmedic.yaml:1: unknown key "databse"; did you mean "database"?`},
		{"key of another section", "compression: gzip\n", `did you mean "backup.compression"?`},
		{"other spelling", "database:\n  directUrl: x\n", `did you mean "direct_url"?`},
		{"retention", "backup:\n  retention: 30\n", "pgmedic.yaml:2: unknown key \"backup.retention\"; did you mean the section \"retention\"?"},
		{"schedule", "schedule:\n  daily: x\n", `pgmedic.yaml:1: unknown key "schedule"; did you mean "schedules"?`},
		{"a channel's key", "notifications: {channels: [{name: a, typ: hunter2}]}\n", "pgmedic.yaml:1: unknown key in a channel"},
		{"a channel without a name", "notifications: {channels: [{type: hunter2}]}\n", "pgmedic.yaml:1: a channel needs a name of 1 to 63"},
		{"a channel's name", "notifications: {channels: [{name: ../hunter2, type: slack}]}\n", "pgmedic.yaml:1: a channel needs a name of 1 to 63"},
		{"channels that are no list", "notifications: {channels: hunter2}\n", "pgmedic.yaml:1: notifications.channels must be a list"},
		{"a route's key", "notifications: {routes: [{too: [hunter2]}]}\n", "pgmedic.yaml:1: unknown key in a route"},
		{"a route to nowhere", "notifications: {routes: [{match: {env: hunter2}}]}\n", "pgmedic.yaml:1: a route has no to"},
		{"routes without channels", "notifications: {routes: [{to: [hunter2]}]}\n", "pgmedic.yaml:1: notifications.routes leads nowhere"},
		{"unlike any", "backup:\n  quarantine: 30\n", `unknown key "backup.quarantine" / the keys here are all_databases, allow_unencrypted, allow_unsigned, azure, compression, dir, encryption,`},
		{"key that is no name", "database:\n  pass=hunter2: x\n", "pgmedic.yaml:2: unknown key (not a name"},
		{"twice", "server: a\nserver: b\n", "pgmedic.yaml:2: the file has the same key twice, first on line 1"},
		{"no mapping", "hunter2\n", "pgmedic.yaml:1: the file must be a mapping"},
		{"list for the file", "- hunter2\n", "must be a mapping"},
		{"section that is a value", "database: hunter2\n", "pgmedic.yaml:1: database must be a mapping"},
		{"value that is a section", "database:\n  host:\n    hunter2: x\n", "pgmedic.yaml:2: database.host must be a single value"},
		{"value that is a list", "database:\n  password: [hunter2]\n", "pgmedic.yaml:2: database.password must be a single value"},
		{"anchor", "database:\n  password: &p hunter2\n", "anchor, alias or tag"},
		{"merge key", "a: &a {x: 1}\n<<: *a\n", "pgmedic.yaml:2: a key of the file is not a plain name"},
		{"a number as a key", "server: a\nbackup:\n  1: x\n  compression: hunter2\n", "pgmedic.yaml:3: unknown key (not a name"},
		{"the first of several", "backup:\n  compresion: a\n  methud: b\n  recipents: c\n", `pgmedic.yaml:2: unknown key "backup.compresion"; did you mean "compression"?`},
		{"two documents", "server: a\n---\nserver: b\n", "pgmedic.yaml:3: a second document"},
		{"unclosed quote", "server: a\ndatabase:\n  password: 'hunter2\n", "pgmedic.yaml:3: not valid YAML"},
		{"colon in a value", "database:\n  password: hunter2: x\n", "pgmedic.yaml:2: not valid YAML"},
		{"tab", "database:\n\tpassword: hunter2\n", "pgmedic.yaml:2: not valid YAML"},
		{"not text", "server: \xff\n", "UTF-8"},
		{"empty", " \n", "pgmedic.yaml: is empty"},
		{"too large", strings.Repeat("# hunter2\n", 10000), "larger than 64 KiB"},
		{"port as words", "database:\n  port: hunter2\n", "pgmedic.yaml:2: database.port must be a whole number from 1 to 65535"},
		{"port out of range", "database:\n  port: 65536\n", "from 1 to 65535"},
		{"port zero", "database:\n  port: 0\n", "from 1 to 65535"},
		{"enum", "backup:\n  compression: hunter2\n", "pgmedic.yaml:2: backup.compression must be one of gzip, zstd, none"},
		{"unknown method", "backup:\n  method: hunter2\n", "pgmedic.yaml:2: backup.method must be one of plain, parallel, physical"},
		{"unknown encryption", "backup:\n  encryption: hunter2\n", "pgmedic.yaml:2: backup.encryption must be one of age,"},
		{"recipients as a mapping", "backup:\n  recipients: {age1: hunter2}\n", "pgmedic.yaml:2: backup.recipients must be"},
		{"passphrase as a list", "backup:\n  encryption_key: [hunter2]\n", "pgmedic.yaml:2: backup.encryption_key must be a single value"},
		{"too many jobs", "backup:\n  jobs: 1000\n", "backup.jobs must be a whole number from 0 to 256"},
		{"negative duration", "backup:\n  lock_timeout: -1s\n", "pgmedic.yaml:2: backup.lock_timeout must not be negative"},
		{"no duration", "backup:\n  lock_timeout: hunter2\n", "backup.lock_timeout must be a duration"},
		{"endless days", "backup:\n  lock_timeout: 1e300d\n", "must be a duration"},
		{"endless duration", "backup:\n  lock_timeout: 1e300\n", "must be a duration that makes sense"},
		{"percent", "report:\n  thresholds:\n    connections_warn_percent: 101\n", "pgmedic.yaml:3: report.thresholds.connections_warn_percent must be a number from 0 to 100"},
		{"NaN", "report:\n  thresholds:\n    connections_warn_percent: nan\n", "must be a number"},
		{"contradiction", "report:\n  thresholds:\n    connections_warn_percent: 95\n", "pgmedic.yaml:3: report.thresholds.connections_warn_percent is above connections_critical_percent"},
		{"full sooner", "report:\n  thresholds:\n    disk_full_critical: 400h\n", "pgmedic.yaml:3: report.thresholds.disk_full_critical is above disk_full_warn"},
		{"history elsewhere", "report:\n  history: s3://bucket/x\n", "pgmedic.yaml:2: report.history must be a local path"},
		{"contradiction from the other side", "report:\n  thresholds:\n    cache_hit_critical_percent: 99.9\n", "pgmedic.yaml:3: report.thresholds.cache_hit_critical_percent is above cache_hit_warn_percent"},
		{"name", "server: a/../b\n", "pgmedic.yaml:1: server must be 1 to 63 letters"},
		{"home", "backup:\n  dir: ~/backups\n", "begins with ~"},
		{"URL with a slash too few", "backup:\n  dir: s3:/bucket/x\n", "begins like a URL"},
		{"URL for a folder", "backup:\n  dir: s3://bucket/x\n", "must be a local path"},
		{"empty item", "postgres:\n  bin_dirs:\n    - /a\n    -\n", "an item of postgres.bin_dirs must not be empty"},
		{"labels as a list", "backup:\n  labels: [hunter2]\n", "pgmedic.yaml:2: backup.labels must be a mapping"},
		{"deep label", "backup:\n  labels:\n    env: {a: hunter2}\n", "pgmedic.yaml:3: a label of backup.labels must be a single value"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "pgmedic.yaml", tt.file)
			cfg, err := config.Load(config.Options{Dir: dir})
			if err == nil {
				err = cfg.CheckNotifications()
			}
			wantUsage(t, err, tt.want)
		})
	}
}

func TestOtherErrors(t *testing.T) {
	flag := func(key, name, value string) []config.Flag {
		return []config.Flag{{Key: key, Name: name, Value: value}}
	}
	for _, tt := range []struct {
		name, dotenv string
		opts         config.Options
		want         string
	}{
		{name: "missing file", opts: config.Options{File: "no/such.yaml"}, want: "no/such.yaml: can't be read: no such file"},
		{name: "missing file of PGMEDIC_CONFIG", opts: config.Options{Environ: []string{"PGMEDIC_CONFIG=no.yaml"}}, want: "no.yaml: can't be read"},
		{name: "folder", opts: config.Options{File: "."}, want: "can't be read: it is a folder"},
		{name: "missing env file", opts: config.Options{EnvFile: "no.env"}, want: "no.env: can't be read"},
		{name: "environment", opts: config.Options{Environ: []string{"DB_PORT=hunter2"}}, want: "DB_PORT must be a whole number from 1 to 65535"},
		{name: "env file", dotenv: "DB_PORT=hunter2\n", want: ".env: DB_PORT must be a whole number"},
		{name: "env file line", dotenv: "DB_HOST=a\n\nDB PASSWORD hunter2\nDB_NAME=x\n", want: ".env:3: is not NAME=value"},
		{name: "env file quote", dotenv: "A='x\ny'\nDB_PASSWORD=\"hunter2\n", want: ".env:3: is not NAME=value"},
		{name: "flag", opts: config.Options{Flags: flag("database.port", "--port", "hunter2")}, want: "--port must be a whole number"},
		{name: "empty flag", opts: config.Options{Flags: flag("database.host", "--host", "")}, want: "--host is empty"},
		{name: "flag of no setting", opts: config.Options{Flags: flag("database.hots", "--hots", "x")}, want: "not a setting"},
		{name: "password in a flag", opts: config.Options{Flags: flag("database.password", "--password", "hunter2")}, want: "on the command line"},
		{name: "password in a flag's URL", opts: config.Options{Flags: flag("database.url", "--url", "postgres://u:hunter2@h/db")}, want: "on the command line"},
		{name: "password in a flag's parameter", opts: config.Options{Flags: flag("database.url", "--url", "postgres://h/db?password=hunter2")}, want: "on the command line"},
		{name: "secret of no variable", opts: config.Options{Environ: []string{"DB_PASSWORD=env:hunter2"}}, want: "DB_PASSWORD names an environment variable that is not set"},
		{name: "secret of no file", opts: config.Options{Environ: []string{"DB_PASSWORD=file:hunter2"}}, want: "DB_PASSWORD names a file that can't be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.opts.Dir = t.TempDir()
			if tt.dotenv != "" {
				write(t, tt.opts.Dir, ".env", tt.dotenv)
			}
			_, err := config.Load(tt.opts)
			wantUsage(t, err, tt.want)
		})
	}
}

func TestUnreadableFile(t *testing.T) {
	if os.Getuid() == 0 {
		testkit.Elsewhere(t, "root reads everything")
	}
	dir := t.TempDir()
	if err := os.Chmod(write(t, dir, "pgmedic.yaml", "server: a\n"), 0); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(config.Options{Dir: dir})
	wantUsage(t, err, "pgmedic.yaml: can't be read: permission denied")
}

// FuzzLoad holds Load to its word on any file: no panic, and no error that
// holds the secret.
func FuzzLoad(f *testing.F) {
	const secret = "s3cr3t/MARK=="
	for _, seed := range []struct{ before, after string }{
		{"", ""},
		{"server: a\n", "  port: x\n"},
		{"backup: {", "}"},
		{"a: |\n ", ": b"},
		{"? ", "\n: x"},
		{"x: &a [", "]\ny: *a\n<<: *a"},
		{"'", "'\n---\n- x\n"},
		{"%YAML 1.2\n---\n!!map {a: \"\\x", "\"}"},
		{"report:\n  thresholds:\n", "log:\n\tlevel: x\r\n"},
	} {
		f.Add(seed.before, seed.after)
	}
	path := filepath.Join(f.TempDir(), "pgmedic.yaml")
	f.Fuzz(func(t *testing.T, before, after string) {
		text := before + "database:\n  password: " + secret + "\n" + after
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(config.Options{File: path, Dir: filepath.Dir(path)})
		if err != nil {
			all := err.Error() + pgmedic.HintOf(err)
			if strings.Contains(all, "s3cr3t") || strings.Contains(all, "MARK==") {
				t.Errorf("the error holds the secret: %s", all)
			}
			if pgmedic.KindOf(err) != pgmedic.KindUsage {
				t.Errorf("kind %v of %v", pgmedic.KindOf(err), err)
			}
			return
		}
		for _, v := range cfg.Effective() {
			if v.Secret && strings.Contains(v.Value, "MARK") {
				t.Errorf("%s shows the secret: %s", v.Key, v.Value)
			}
		}
	})
}
