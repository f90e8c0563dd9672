package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/config"
)

// setting is a leaf of Config as its tags have it.
type setting struct {
	key, env, rule, doc string
	path, secret        bool
	value               func(*config.Config) reflect.Value
}

func settings(t reflect.Type, prefix string, index []int) (all []setting) {
	for f := range t.Fields() {
		at := append(append([]int(nil), index...), f.Index...)
		name := f.Tag.Get("yaml")
		switch {
		case f.Anonymous:
			all = append(all, settings(f.Type, prefix, at)...)
		case name == "" || name == "-":
		case f.Type.Kind() == reflect.Struct:
			all = append(all, settings(f.Type, prefix+name+".", at)...)
		default:
			all = append(all, setting{
				key: prefix + name, env: f.Tag.Get("env"), rule: f.Tag.Get("rule"), doc: f.Tag.Get("doc"),
				path: f.Tag.Get("path") == "true", secret: f.Tag.Get("secret") == "true",
				value: func(c *config.Config) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(at) },
			})
		}
	}
	return all
}

// isPath reports whether a value of the setting can be a path.
func (s setting) isPath() bool {
	return s.path || s.rule == "store" || s.rule == "path or off" || s.rule == "signers" || s.rule == "signing key"
}

// TestEachPathOfEnvFile sets each setting that can be a path to a relative one in a
// .env file, and reads it from another working folder.
func TestEachPathOfEnvFile(t *testing.T) {
	tested := 0
	for _, s := range settings(reflect.TypeFor[config.Config](), "", nil) {
		if !s.isPath() || s.env == "" {
			continue
		}
		tested++
		t.Run(s.key, func(t *testing.T) {
			home := t.TempDir()
			file := filepath.Join(home, ".env")
			if err := os.WriteFile(file, []byte(s.env+"=./sub/x\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(config.Options{EnvFile: file, Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			got := s.value(cfg)
			if got.Kind() == reflect.Slice {
				got = got.Index(0)
			}
			if want := filepath.Join(home, "sub", "x"); got.String() != want {
				t.Errorf("%s is %q, want %q", s.key, got.String(), want)
			}
			if cfg.Folder(s.key) != home {
				t.Errorf("its folder is %q, want %q", cfg.Folder(s.key), home)
			}
		})
	}
	if tested < 10 {
		t.Errorf("%d settings", tested)
	}
}

// TestRelativeSecretsOfEnvFile does the same with the files that secrets are in.
func TestRelativeSecretsOfEnvFile(t *testing.T) {
	tested := 0
	for _, s := range settings(reflect.TypeFor[config.Config](), "", nil) {
		if !s.secret || s.env == "" {
			continue
		}
		tested++
		t.Run(s.key, func(t *testing.T) {
			home := t.TempDir()
			value := "kept-in-a-file"
			if s.rule == "url" {
				value = "postgres://somewhere/clinic"
			}
			for name, text := range map[string]string{".env": s.env + "=file:here\n", "here": value + "\n"} {
				if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cfg, err := config.Load(config.Options{EnvFile: filepath.Join(home, ".env"), Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			// What is for messages alone is read when there is one.
			if written := cfg.Written(s.key); written != "" {
				if want := "file:" + filepath.Join(home, "here"); written != want {
					t.Errorf("%s will be read from %q, want %q", s.key, written, want)
				}
			} else if got := s.value(cfg).String(); got != value {
				t.Errorf("%s was not read from the file", s.key)
			}
			if cfg.Folder(s.key) != home {
				t.Errorf("its folder is %q, want %q", cfg.Folder(s.key), home)
			}
		})
	}
	if tested < 5 {
		t.Errorf("%d settings", tested)
	}
}

// TestPathsAreDeclared: a setting whose description speaks of a file or a folder is
// declared as a path, so that the two tests above see it; or it is here, with the reason.
func TestPathsAreDeclared(t *testing.T) {
	otherwise := map[string]string{
		"database.host":                        "a folder of sockets is absolute, or libpq takes it for a host",
		"audit.forward":                        "a kind and, behind a colon, an absolute path",
		"log.format":                           "a word, which the configuration file may have",
		"report.thresholds.bloat_warn_percent": "a share of a table's file",
	}
	speaks := regexp.MustCompile(`(?i)\b(files?|folders?|directory|path)\b`)
	undeclared := func(all []setting) (keys []string) {
		for _, s := range all {
			if _, excepted := otherwise[s.key]; speaks.MatchString(s.doc) && !s.isPath() && !s.secret && !excepted {
				keys = append(keys, s.key)
			}
		}
		return keys
	}
	if keys := undeclared(settings(reflect.TypeFor[config.Config](), "", nil)); len(keys) > 0 {
		t.Errorf("say path:\"true\", or why not: %s", strings.Join(keys, ", "))
	}
	type forgetful struct {
		Socket string `yaml:"socket" env:"PGMEDIC_SOCKET" doc:"File of the socket."`
	}
	if keys := undeclared(settings(reflect.TypeFor[forgetful](), "", nil)); len(keys) != 1 {
		t.Error("a setting that is not declared is not found")
	}
}

// TestFilesOfVariables: a variable that names a file is read from the .env file likewise.
func TestFilesOfVariables(t *testing.T) {
	home := t.TempDir()
	text := "VAULT_CACERT=ca.pem\nVAULT_K8S_TOKEN_FILE=/run/token\nVAULT_APPROLE_PATH=approle\nBAO_CACERT=other.pem\n"
	if err := os.WriteFile(filepath.Join(home, ".env"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Options{EnvFile: filepath.Join(home, ".env"), Dir: t.TempDir(), Environ: []string{"BAO_CACERT=theirs.pem"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"VAULT_CACERT": filepath.Join(home, "ca.pem"), "VAULT_K8S_TOKEN_FILE": "/run/token", "VAULT_APPROLE_PATH": "approle", "BAO_CACERT": "theirs.pem", "VAULT_TOKEN": "",
	} {
		if got := cfg.Environment(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
