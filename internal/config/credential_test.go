package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/config"
)

// TestCredentials: each setting that can be a reference can be one to a credential of
// systemd, and is found with its place: those of copies, of channels and of AWS as well.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", `backup:
  encryption_key: credential:phrase
copies:
  - {name: far, store: "sftp://u@host/far", sftp: {password: credential:far}}
  - {name: near, store: "azblob://near", azure: {key: credential:near}}
pings: {backup: credential:ping}
notifications:
  channels:
    - {name: hook, type: webhook, url: credential:hook, secret: ["credential:new", "credential:old"]}
    - {name: mail, type: email, to: a@clinic.example, smtp: credential:smtp}
`)
	lines := []string{"AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=credential:aws", "BACKUP_ENCRYPTION_KEY="}
	for _, k := range config.Keys() {
		if k.Secret && k.Env != "" && k.Env != "BACKUP_ENCRYPTION_KEY" && k.Env != "PGMEDIC_PING_BACKUP" {
			lines = append(lines, k.Env+"=credential:"+strings.ToLower(k.Env))
		}
	}
	write(t, dir, ".env", strings.Join(lines, "\n")+"\n")
	cfg := load(t, config.Options{Dir: dir, Environ: []string{"AWS_SESSION_TOKEN=credential:no-job-has-it"}})
	got := map[string]string{}
	for _, c := range cfg.Credentials() {
		got[c.Name] = c.Where
	}
	want := map[string]string{
		"phrase": "pgmedic.yaml:2: backup.encryption_key", "far": "pgmedic.yaml:4: copies.sftp.password", "near": "pgmedic.yaml:5: copies.azure.key",
		"ping": "pgmedic.yaml:6: pings.backup", "hook": "pgmedic.yaml:9: channel hook", "new": "pgmedic.yaml:9: channel hook", "old": "pgmedic.yaml:9: channel hook",
		"smtp": "pgmedic.yaml:10: channel mail", "aws": ".env: AWS_SECRET_ACCESS_KEY",
	}
	for _, k := range config.Keys() {
		if k.Secret && k.Env != "" && k.Env != "BACKUP_ENCRYPTION_KEY" && k.Env != "PGMEDIC_PING_BACKUP" {
			want[strings.ToLower(k.Env)] = ".env: " + k.Env
		}
	}
	for name, where := range want {
		if got[name] != where {
			t.Errorf("%s is found in %q, want %q", name, got[name], where)
		}
	}
	if len(got) != len(want) || len(want) < 20 {
		t.Errorf("%d credentials, want %d: %v", len(got), len(want), got)
	}
}

// TestEnvFileWarnsOfAWSNames: each of AWS's variables is read from the .env file, or named
// by a warning.
func TestEnvFileWarnsOfAWSNames(t *testing.T) {
	dir := t.TempDir()
	read := []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_S3_BUCKET"}
	unread := []string{"AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL_STS", "AWS_REGON"}
	text := "DB_PASSWORD=env:AWS_OF_DATABASE\nAWS_OF_DATABASE=x\nAWS_EMPTY=\nAWS_MAX_ATTEMPTS=9\n" +
		strings.Join(slices.Concat(read, unread), "=x\n") + "=x\n"
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := load(t, config.Options{Dir: dir, Environ: []string{"AWS_MAX_ATTEMPTS=9", "AWS_EC2_METADATA_DISABLED=true"}})
	var want []string
	for _, name := range slices.Sorted(slices.Values(unread)) {
		want = append(want, ".env: "+name+" is set but unknown there; the AWS SDK's other variables count only in the environment")
	}
	if !slices.Equal(cfg.Warnings, want) {
		t.Errorf("warnings:\n%s\nwant:\n%s", strings.Join(cfg.Warnings, "\n"), strings.Join(want, "\n"))
	}
}
