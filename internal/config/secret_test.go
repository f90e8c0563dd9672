package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
)

func TestSecretReferences(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "etc/password", "hunter2\n\n")
	write(t, dir, "etc/one", " hunter2 \r\n")
	write(t, dir, "etc/empty", "\n")
	write(t, dir, "elsewhere", "from-dir")
	environ := func(v string) config.Options {
		return config.Options{Environ: []string{"DB_PASSWORD=" + v, "OTHER=from-env", "NESTED=env:OTHER"}}
	}
	for _, tt := range []struct {
		name string
		opts config.Options
		file string
		want string
		err  string
	}{
		{name: "value", opts: environ("plain"), want: "plain"},
		{name: "variable", opts: environ("env:OTHER"), want: "from-env"},
		{name: "reference to a reference stays text", opts: environ("env:NESTED"), want: "env:OTHER"},
		{name: "file in the environment is of the working folder", opts: environ("file:elsewhere"), want: "from-dir"},
		{name: "file in the file is of its folder", file: "file:one", want: " hunter2 "},
		{name: "file URL", opts: environ("file://" + dir + "/elsewhere"), want: "from-dir"},
		{name: "two lines", file: "file:password", err: "more than one line"},
		{name: "empty file", file: "file:empty", err: "database.password names a file that is empty"},
		{name: "no file", file: "file:hunter2", err: "pgmedic.yaml:2: database.password names a file that can't be read: no such file"},
		{name: "flag", opts: config.Options{Flags: []config.Flag{{Key: "database.password", Name: "--password", Value: "file:elsewhere"}}}, want: "from-dir"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.opts.Dir = dir
			if tt.file != "" {
				tt.opts.File = write(t, dir, "etc/pgmedic.yaml", "database:\n  password: "+tt.file+"\n")
			}
			cfg, err := config.Load(tt.opts)
			if tt.err != "" {
				wantUsage(t, err, tt.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := cfg.Database.Password.Reveal(); got != tt.want {
				t.Errorf("password %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSecretFileMode(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "password", "hunter2\n")
	opts := config.Options{Dir: dir, Environ: []string{"DB_PASSWORD=file:password"}}
	if w := load(t, opts).Warnings; len(w) != 0 {
		t.Errorf("warnings for a file of mode 0600: %q", w)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if w := load(t, opts).Warnings; len(w) != 1 || !strings.HasPrefix(w[0], "DB_PASSWORD: other users can read") {
		t.Errorf("warnings for a file of mode 0644: %q", w)
	}
}

// TestSecretsStayHidden prints a configuration in every way that somebody
// might by mistake.
func TestSecretsStayHidden(t *testing.T) {
	cfg := load(t, config.Options{Dir: t.TempDir(), Environ: []string{
		"DATABASE_URL=postgres://clinic:hunter2@db/clinic?sslpassword=hunter2", "DB_PASSWORD=hunter2",
	}})
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("config", "config", cfg, "password", cfg.Database.Password)
	slog.New(slog.NewTextHandler(&log, nil)).Info("config", "config", cfg, "connection", cfg.Connection())
	js, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	all.WriteString(log.String() + string(js) + fmt.Sprint(cfg.Effective(), cfg.Connection(), cfg.Warnings))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{cfg, cfg.Database.Password, cfg.Connection()} {
			fmt.Fprintf(&all, verb, v)
		}
	}
	for _, secret := range []string{"hunter2", fmt.Sprintf("%x", "hunter2")} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("%q shows", secret)
		}
	}
}

func TestEffectiveURL(t *testing.T) {
	const hidden = "•••• (set)"
	for _, tt := range []struct{ url, want string }{
		{"postgresql://clinic:hunter2@db:5432/app?schema=public", "postgresql://clinic:••••@db:5432/app?…"},
		{"postgres://clinic@db/app", "postgres://clinic@db/app"},
		{"postgres:///app", "postgres:///app"},
		{"postgres://clinic:a@b@db/app", hidden},
		{"postgres://clinic:12/hunter2@db/app", hidden},
		{"postgres://clinic:12?hunter2@db/app", hidden},
		{"postgres://clinic:12#hunter2@db/app", hidden},
		{"postgres://db/app#hunter2", hidden},
		{"host=db password=hunter2", hidden},
		{"postgres:hunter2", hidden},
		{"postgres://clinic:%zz@db", hidden},
	} {
		t.Run(tt.url, func(t *testing.T) {
			cfg := load(t, config.Options{Dir: t.TempDir(), Environ: []string{"DATABASE_URL=" + tt.url}})
			if got := value(t, cfg, "database.url").Value; got != tt.want {
				t.Errorf("shows %q, want %q", got, tt.want)
			}
			if cfg.Database.URL.Reveal() != tt.url {
				t.Errorf("the URL became %q", cfg.Database.URL.Reveal())
			}
		})
	}
}

func TestEnvFileDollar(t *testing.T) {
	for _, tt := range []struct {
		name, line, password string
		warned               bool
	}{
		{"replaced", "DB_PASSWORD=pa$WORD1", "pa", true},
		{"in single quotes", "DB_PASSWORD='pa$WORD1'", "pa$WORD1", false},
		{"none", "DB_PASSWORD=pass#1", "pass#1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, ".env", tt.line+"\n")
			cfg := load(t, config.Options{Dir: dir})
			if got := cfg.Database.Password.Reveal(); got != tt.password {
				t.Errorf("password %q, want %q", got, tt.password)
			}
			if (len(cfg.Warnings) == 1) != tt.warned {
				t.Errorf("warnings: %q", cfg.Warnings)
			}
		})
	}
}

func TestUnknownPreset(t *testing.T) {
	_, err := config.Example("hunter2")
	if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(pgmedic.HintOf(err), "development, staging, production") {
		t.Errorf("err = %v, hint %q", err, pgmedic.HintOf(err))
	}
}
