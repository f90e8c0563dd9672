package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
)

// TestFilesOfURLs: what a connection URL of a .env file names by a relative path is beside
// that file, wherever pgmedic was started.
func TestFilesOfURLs(t *testing.T) {
	home := t.TempDir()
	for name, text := range map[string]string{
		"url":    "DATABASE_URL=postgres://db/clinic?sslrootcert=ca.pem\n",
		"direct": "DATABASE_URL=postgres://pooler/clinic\nDIRECT_URL=postgres://db/clinic?sslrootcert=ca.pem\n",
		"others": "DATABASE_URL=postgres://db/clinic?sslrootcert=ca.pem\nDB_READ_REPLICA_URL=postgres://standby/clinic?sslrootcert=ca.pem\n",
	} {
		file := filepath.Join(home, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(config.Options{EnvFile: file, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		s := servers{job{env: &env{}, cfg: cfg}}
		target, err := s.target()
		if err != nil {
			t.Fatal(err)
		}
		replicas, err := s.replicas()
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range append(replicas, target) {
			if got, want := one.Value("sslrootcert"), filepath.Join(home, "ca.pem"); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if name == "others" && len(replicas) != 1 {
			t.Errorf("%d standbys", len(replicas))
		}
	}
}

// TestPasswordsOfStandbys: after a rotation the password of a standby is read again from the
// list, whatever its order is now, and no server is sent that of another.
func TestPasswordsOfStandbys(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "standbys")
	keep := func(text string) {
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep("postgres://u:one@a/clinic,postgres://u:two@b:5433/clinic")
	cfg, err := config.Load(config.Options{Dir: dir, Environ: []string{"DB_READ_REPLICA_URL=file:" + file}})
	if err != nil {
		t.Fatal(err)
	}
	s := servers{job{env: &env{}, cfg: cfg, secrets: newResolver(cfg, nil)}}
	standbys, err := s.replicas()
	if err != nil || len(standbys) != 2 {
		t.Fatalf("%d standbys, %v", len(standbys), err)
	}
	again := func(i int) string {
		password, err := passwordAgain(t.Context(), standbys[i], cfg, "database.read_replica_url", s.secrets.Fresh)
		if err != nil {
			if strings.Contains(err.Error(), "new") {
				t.Errorf("a password in %v", err)
			}
			return pgmedic.KindOf(err).String()
		}
		return password
	}
	keep("postgres://u:new2@b:5433/clinic,postgres://u:new1@a/clinic")
	if a, b := again(0), again(1); a != "new1" || b != "new2" {
		t.Errorf("%q and %q", a, b)
	}
	keep("postgres://u:new3@c/clinic")
	if a := again(0); a != "usage" {
		t.Errorf("a password of another server: %q", a)
	}
}
