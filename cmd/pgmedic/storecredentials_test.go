package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/secret"
)

// TestAWSSecret: a variable of AWS may say where its value is kept, which is read again if that
// is asked for; nothing is run, and no error has the value or the path.
func TestAWSSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret-key")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	st := stores{job{secrets: secret.New(secret.Options{})}}
	const name = "AWS_SECRET_ACCESS_KEY"
	want := func(text, value string, again bool) {
		t.Helper()
		if got, err := st.awsSecret(t.Context(), name, text, again); err != nil || got != value {
			t.Errorf("%q, %v, want %q", got, err, value)
		}
	}
	want("wJalrEXAMPLE/key+", "wJalrEXAMPLE/key+", false)
	want("file:"+file, "first", false)
	write("second")
	want("file:"+file, "first", false) // of the last minutes
	want("file:"+file, "second", true)
	want("file:"+file, "second", false)
	for text, words := range map[string]string{
		"exec:/bin/echo hunter2":        "runs no program",
		"aws-sm://eu-central-1/hunter2": "can't be kept there",
		"file:" + file + "-hunter2":     "no such secret",
		"file:hunter2":                  "not an absolute path",
		"vault://secret/hunter2#key":    "VAULT_ADDR",
		"credential:hunter2":            "credential",
	} {
		_, err := st.awsSecret(t.Context(), name, text, true)
		if err == nil || !strings.Contains(err.Error()+pgmedic.HintOf(err), words) || !strings.HasPrefix(err.Error(), name) || strings.Contains(err.Error()+pgmedic.HintOf(err), "hunter2") {
			t.Errorf("%s: %v (%s)", text, err, pgmedic.HintOf(err))
		}
	}
}

// TestS3EndpointOfVariables: the server of a bucket is what the settings say, else what AWS's
// own variables say in the .env file. Those of the environment are left to the SDK.
func TestS3EndpointOfVariables(t *testing.T) {
	for name, tt := range map[string]struct {
		dotenv  string
		environ []string
		want    string
	}{
		"of S3":       {"AWS_ENDPOINT_URL_S3=http://own:9000\nAWS_ENDPOINT_URL=http://all:9000\n", nil, "s3://clinic at http://own:9000"},
		"of all":      {"AWS_ENDPOINT_URL=http://all:9000\n", nil, "s3://clinic at http://all:9000"},
		"environment": {"AWS_ENDPOINT_URL=http://all:9000\n", []string{"AWS_ENDPOINT_URL=http://theirs:9000"}, "s3://clinic"},
		"setting":     {"AWS_ENDPOINT_URL_S3=http://own:9000\nPGMEDIC_S3_ENDPOINT=http://set:9000\n", nil, "s3://clinic at http://set:9000"},
		"ignored":     {"AWS_ENDPOINT_URL_S3=http://own:9000\n", []string{"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true"}, "s3://clinic"},
		"none":        {"", nil, "s3://clinic"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("PGMEDIC_STORE=s3://clinic\nAWS_DEFAULT_REGION=eu-west-1\n"+tt.dotenv), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(config.Options{Dir: dir, Environ: tt.environ})
			if err != nil || len(cfg.Warnings) > 0 {
				t.Fatalf("%v, %v", err, cfg.Warnings)
			}
			t.Setenv("AWS_REGION", "") // what the SDK reads by itself
			t.Setenv("AWS_DEFAULT_REGION", "")
			st := stores{job{env: &env{environ: tt.environ}, cfg: cfg, log: slog.New(slog.DiscardHandler)}}
			c, closed, err := st.openUnlocked(t.Context(), cfg.Backup.Place(), cfg.Backup.Access, true)
			if err != nil {
				t.Fatal(err)
			}
			defer closed()
			if got := c.Store().String(); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}
