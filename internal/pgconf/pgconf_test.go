package pgconf_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/pgconf"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// lines are those of a file, with the value that a server reads; an empty name has none.
func lines() map[string]pgconf.Setting {
	return map[string]pgconf.Setting{
		"port = 5433":                     {Name: "port", Value: "5433"},
		"port 5433":                       {Name: "port", Value: "5433"},
		"\tPort=5433 # as ever":           {Name: "port", Value: "5433"},
		"port = '5433'":                   {Name: "port", Value: "5433"},
		"a.b = 'it''s'":                   {Name: "a.b", Value: "it's"},
		`a.b = 'it\'s \\ \n \101\t'`:      {Name: "a.b", Value: "it's \\ \n A\t"},
		"a.b = '# no comment' # but here": {Name: "a.b", Value: "# no comment"},
		"a.b = ''":                        {Name: "a.b"},
		"a.b = -1":                        {Name: "a.b", Value: "-1"},
		"a.b = on#and off":                {Name: "a.b", Value: "on"},
		"a.b = 'ä, \"B\"'":                {Name: "a.b", Value: "ä, \"B\""},
		"a.b = on\r":                      {Name: "a.b", Value: "on"},
		"#port = 1":                       {},
		"":                                {},
		"  # port = 1":                    {},
		"port = 'open":                    {},
		"port":                            {},
		"1port = 5":                       {},
	}
}

func TestParse(t *testing.T) {
	for text, want := range lines() {
		got := pgconf.Parse(text)
		if want.Name == "" && len(got) != 0 || want.Name != "" && (len(got) != 1 || got[0] != want) {
			t.Errorf("%q is %+v, want %+v", text, got, want)
		}
	}
}

// TestParseAsTheServer: a server that has a line reads the same of it (pg_file_settings).
func TestParseAsTheServer(t *testing.T) {
	testkit.OnlyAll(t, "a server")
	server := scratchtest.New(t, scratch.Options{})
	conn := postgrestest.Connect(t, postgrestest.Parse(t, server.DSN("postgres")))
	config := filepath.Join(server.DataDir(), pgconf.MainFile)
	before, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range lines() {
		if err := os.WriteFile(config, []byte(string(before)+"\n"+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		got := postgrestest.Query[string](t, conn, "SELECT coalesce((SELECT lower(name) || '=' || coalesce(setting, '') FROM pg_file_settings WHERE sourcefile LIKE '%postgresql.conf' ORDER BY seqno DESC LIMIT 1), '')")
		if want.Name != "" && got != want.Name+"="+want.Value {
			t.Errorf("%q is %q for the server, want %+v", text, got, want)
		}
	}
}

func read(files map[string]string) *pgconf.Settings {
	return pgconf.Read(func(name string) (string, bool) {
		text, ok := files[name]
		return text, ok
	}, func(dir string) (names []string) {
		for name := range files {
			if rest, ok := strings.CutPrefix(name, dir+"/"); ok && !strings.Contains(rest, "/") {
				names = append(names, rest)
			}
		}
		return names
	})
}

// TestRead: what is read last counts, wherever it stands, and what can't be read is named.
func TestRead(t *testing.T) {
	s := read(map[string]string{
		"postgresql.conf": "port = 1\ninclude 'more/one.conf'\ninclude_dir = 'conf.d'\ninclude_if_exists = '/etc/none'\ninclude '../out.conf'\ninclude 'none.conf'\n" +
			"shared_preload_libraries = 'a, \"B\"\"c\" ,, d'\nssl = ye\nfsync = of\nhuge_pages = try\n",
		"postgresql.auto.conf": "work_mem = '5MB'\n",
		"more/one.conf":        "port = 2\ninclude 'two.conf'\nwork_mem = 1\n",
		"more/two.conf":        "max_connections = 7\n",
		"conf.d/a.conf":        "port = 4\n",
		"conf.d/B.conf":        "port = 3\n",
		"conf.d/.c.conf":       "port = 5\n",
		"conf.d/d":             "port = 6\n",
		"out.conf":             "port = 7\n",
	})
	for name, want := range map[string]pgconf.Setting{
		"port": {Name: "port", Value: "4", File: "conf.d/a.conf"}, "work_mem": {Name: "work_mem", Value: "5MB", File: "postgresql.auto.conf"},
		"max_connections": {Name: "max_connections", Value: "7", File: "more/two.conf"},
	} {
		if got, ok := s.Get(name); !ok || got != want {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
	if want := []pgconf.Include{{"postgresql.conf", "/etc/none", true}, {"postgresql.conf", "../out.conf", false}, {"postgresql.conf", "none.conf", false}}; !slices.Equal(s.Unread, want) {
		t.Errorf("unread are %+v", s.Unread)
	}
	if got := s.List("shared_preload_libraries"); !slices.Equal(got, []string{"a", `B"c`, "d"}) {
		t.Errorf("libraries %q", got)
	}
	for name, want := range map[string][2]bool{"ssl": {true, true}, "fsync": {false, true}, "huge_pages": {false, false}, "none": {false, false}} {
		if on, known := s.Bool(name); on != want[0] || known != want[1] {
			t.Errorf("%s is %t, %t", name, on, known)
		}
	}
	if got := []string{"postgresql.conf", "more/one.conf", "more/two.conf", "conf.d/B.conf", "conf.d/a.conf", "postgresql.auto.conf"}; !slices.Equal(s.Files, got) {
		t.Errorf("read were %q", s.Files)
	}
	if s := read(map[string]string{"postgresql.conf": "include 'postgresql.conf'\nport = 9\n"}); s.Value("port") != "9" || len(s.Unread) != 1 {
		t.Errorf("a file that includes itself: %+v", s)
	}
	// Files that include each other a thousand times each, to any depth.
	many := strings.Repeat("include 'postgresql.conf'\n", 1000)
	if s := read(map[string]string{"postgresql.conf": many}); len(s.Files) > 1000 || len(s.Unread) > 1000 {
		t.Errorf("%d files were read, and %d were not", len(s.Files), len(s.Unread))
	}
}
