package config_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/config"
)

func TestConnection(t *testing.T) {
	flag := func(key, value string) config.Flag {
		return config.Flag{Key: "database." + key, Name: "--" + key, Value: value}
	}
	for _, tt := range []struct {
		name         string
		file, dotenv string
		environ      []string
		flags        []config.Flag
		want         config.Connection // ConnectTimeout and MaintenanceDatabase apart
		warning      string            // empty: none
	}{
		{name: "nothing set", want: config.Connection{Host: "localhost", Port: 5432}},
		{
			name:    "libpq's variables are left to libpq",
			environ: []string{"PGHOST=db1", "PGPORT=6000", "PGDATABASE=clinic", "PGUSER=u", "PGPASSWORD=p"},
		},
		{name: "a service is left to libpq", environ: []string{"PGSERVICE=clinic"}},
		{
			name:    "ours over libpq's",
			environ: []string{"PGHOST=db1", "PGPORT=6000", "DB_HOST=db2", "DB_PORT=7000"},
			want:    config.Connection{Host: "db2", Port: 7000},
		},
		{
			name: "a name of ours and a host of libpq's", environ: []string{"PGHOST=db1"}, file: "database: {name: clinic}\n",
			want: config.Connection{Port: 5432, Database: "clinic"},
		},
		{
			name: "parts", dotenv: "DB_HOST=db\nDB_PORT=5433\nDB_NAME=clinic\nDB_USER=u\nDB_PASSWORD=p\n",
			want: config.Connection{Host: "db", Port: 5433, Database: "clinic", User: "u", Password: "p"},
		},
		{
			name: "a URL over parts", dotenv: "DATABASE_URL=postgres://a/b\nDB_HOST=db\nDB_NAME=clinic\n",
			want: config.Connection{URL: "postgres://a/b", FromURL: true},
		},
		{
			name: "a URL over parts of a higher source", file: "database: {url: postgres://a/b}\n", environ: []string{"DB_HOST=db"},
			want:    config.Connection{URL: "postgres://a/b", FromURL: true},
			warning: "DB_HOST is not used: the URL of pgmedic.yaml:1: database.url overrides it",
		},
		{
			name: "flags over a URL", environ: []string{"DATABASE_URL=postgres://a/b"}, flags: []config.Flag{flag("name", "other")},
			want: config.Connection{URL: "postgres://a/b", FromURL: true, Database: "other"},
		},
		{
			name: "direct URL", dotenv: "DATABASE_URL=postgres://pooler/b\nDIRECT_URL=postgres://direct/b\n",
			want: config.Connection{URL: "postgres://direct/b", FromURL: true},
		},
		{
			name: "direct URL of a higher source", file: "database: {url: postgres://pooler/b}\n", environ: []string{"DIRECT_URL=postgres://direct/b"},
			want: config.Connection{URL: "postgres://direct/b", FromURL: true},
		},
		{
			name: "direct URL of a lower source", dotenv: "DIRECT_URL=postgres://production/b\n", flags: []config.Flag{flag("url", "postgres://test/b")},
			want:    config.Connection{URL: "postgres://test/b", FromURL: true},
			warning: ".env: DIRECT_URL is not used: --url comes before it",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.file != "" {
				write(t, dir, "pgmedic.yaml", tt.file)
			}
			write(t, dir, ".env", tt.dotenv)
			cfg := load(t, config.Options{Dir: dir, Environ: tt.environ, Flags: tt.flags})
			tt.want.ConnectTimeout, tt.want.MaintenanceDatabase = 5*time.Second, "postgres"
			if got := cfg.Connection(); got != tt.want {
				t.Errorf("got  %+v (%s)\nwant %+v (%s)", got, got.URL.Reveal(), tt.want, tt.want.URL.Reveal())
			}
			warnings := strings.Join(cfg.Warnings, "\n")
			if tt.warning == "" && warnings != "" || !strings.Contains(warnings, tt.warning) {
				t.Errorf("warnings %q, want %q", warnings, tt.warning)
			}
		})
	}
}

func TestConnectTimeout(t *testing.T) {
	for _, tt := range []struct {
		name    string
		environ []string
		want    time.Duration
		set     bool
	}{
		{"default", nil, 5 * time.Second, false},
		{"set", []string{"DB_CONNECT_TIMEOUT=9"}, 9 * time.Second, true},
		{"set to the default", []string{"DB_CONNECT_TIMEOUT=5s"}, 5 * time.Second, true},
		{"set to wait for ever", []string{"DB_CONNECT_TIMEOUT=0"}, 0, true},
		{"libpq's", []string{"PGCONNECT_TIMEOUT=9"}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := load(t, config.Options{Dir: t.TempDir(), Environ: tt.environ}).Connection()
			if conn.ConnectTimeout != tt.want || conn.ConnectTimeoutSet != tt.set {
				t.Errorf("got %v, set %v", conn.ConnectTimeout, conn.ConnectTimeoutSet)
			}
		})
	}
}

// TestLibpqShown checks that the effective settings tell the truth about what
// is left to libpq.
func TestLibpqShown(t *testing.T) {
	cfg := load(t, config.Options{Dir: t.TempDir(), Environ: []string{"PGHOST=db1,db2", "PGPORT=1,2", "PGPASSWORD=hunter2"}})
	for key, want := range map[string]string{
		"database.host":     "db1,db2 from environment PGHOST",
		"database.port":     "1,2 from environment PGPORT",
		"database.password": "•••• (set) from environment PGPASSWORD",
		"database.name":     " from default",
	} {
		v := value(t, cfg, key)
		if got := v.Value + " from " + v.Origin.String(); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
		if v.Origin.Given() {
			t.Errorf("%s counts as given", key)
		}
	}
}

// TestReadReplicas: commas and spaces part URLs, and commas the hosts of one URL.
func TestReadReplicas(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                      nil,
		"postgres://a/x":                        {"postgres://a/x"},
		"postgres://a/x , postgresql://b/x":     {"postgres://a/x", "postgresql://b/x"},
		"postgres://a:1,b:2/x,postgres://c/x,":  {"postgres://a:1,b:2/x", "postgres://c/x"},
		"postgres://a/x postgres://b/x":         {"postgres://a/x", "postgres://b/x"},
		"postgres://a:1,b:2/x\n postgres://c/x": {"postgres://a:1,b:2/x", "postgres://c/x"},
		"host=a dbname=x":                       {"host=a dbname=x"},
		"postgres://a/x y":                      {"postgres://a/x", "y"},
	} {
		cfg, err := config.Load(config.Options{Dir: t.TempDir(), Environ: []string{"DB_READ_REPLICA_URL=" + text}})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, u := range cfg.ReadReplicas() {
			got = append(got, u.Reveal())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q is %q", text, got)
		}
	}
}
