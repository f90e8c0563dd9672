package cluster

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/pgconf"
	"github.com/pgmedic/pgmedic/internal/physical"
)

// judged is what settings mean on a machine that has some files.
func judged(major int, main, auto string, there ...string) Configuration {
	files := map[string]string{pgconf.MainFile: main, pgconf.AutoFile: auto}
	s := pgconf.Read(func(name string) (string, bool) { text, ok := files[name]; return text, ok }, func(string) []string { return nil })
	return judge(s, major, func(file string) bool { return slices.Contains(there, file) })
}

// others are those of settings but that of subscriptions, which is always there, unless it is named.
func others(all []SetAside, named string) []SetAside {
	return slices.DeleteFunc(all, func(s SetAside) bool { return s.Name == applyWorkers && s.Name != named })
}

// TestSetAside: what would hang, or take what is the old server's, is set aside, and comes back
// by the statement that is printed.
func TestSetAside(t *testing.T) {
	for what, c := range map[string]struct {
		major      int
		main, auto string
		name, undo string
	}{
		"of postgresql.conf":  {15, "synchronous_standby_names = 'ANY 1 (\"a b\", c)'", "", "synchronous_standby_names", `SET synchronous_standby_names = 'ANY 1 ("a b", c)'; SELECT pg_catalog.pg_reload_conf();`},
		"of ALTER SYSTEM":     {15, "", "synchronous_standby_names = '*'", "synchronous_standby_names", "= '*';"},
		"with a quote":        {15, `synchronous_standby_names = '"a''b"'`, "", "synchronous_standby_names", `= '"a''b"';`},
		"slots":               {17, "synchronized_standby_slots = 'one'", "", "synchronized_standby_slots", "= 'one';"},
		"archive":             {12, "archive_mode = always", "", "archive_mode", "= 'always';"},
		"subscriptions":       {12, "", "", "max_logical_replication_workers", "RESET"},
		"subscriptions, many": {12, "max_logical_replication_workers = 9", "", "max_logical_replication_workers", "= '9';"},
		"a pid file":          {12, "external_pid_file = '/run/pg.pid'", "", "external_pid_file", "# pgmedic:"},
	} {
		got := others(judged(c.major, c.main, c.auto).SetAside, c.name)
		if len(got) != 1 || got[0].Name != c.name || !strings.Contains(got[0].Undo, c.undo) || got[0].Why == "" {
			t.Errorf("%s: %+v", what, got)
		}
	}
	for what, main := range map[string]string{"empty": "synchronous_standby_names = ''", "a comment": "#synchronous_standby_names = 'a'", "archive off": "archive_mode = off", "a file in the folder": "external_pid_file = 'pid'"} {
		if got := others(judged(18, main, "").SetAside, ""); len(got) != 0 {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if got := others(judged(15, "synchronous_standby_names = 'a'", "synchronous_standby_names = ''").SetAside, ""); len(got) != 0 {
		t.Errorf("ALTER SYSTEM takes precedence: %+v", got)
	}
}

// TestSetAsideUnseen: what a file outside of the data folder may set is overridden, too, which is
// said: else who brings a server back for good goes on without its archive and its standbys.
func TestSetAsideUnseen(t *testing.T) {
	names := func(major int, files map[string]string) string {
		s := pgconf.Read(func(name string) (string, bool) { text, ok := files[name]; return text, ok }, func(string) []string { return nil })
		var all []string
		for _, a := range others(judge(s, major, func(string) bool { return false }).SetAside, "") {
			all = append(all, a.Name)
			if a.Value == "" && (!strings.HasPrefix(a.Undo, "ALTER SYSTEM RESET "+a.Name+";") || !strings.Contains(a.Why, "not in the backup")) {
				t.Errorf("without a value: %+v", a)
			}
		}
		return strings.Join(all, " ")
	}
	for what, c := range map[string]struct {
		major int
		files map[string]string
		want  string
	}{
		"no postgresql.conf": {16, map[string]string{pgconf.AutoFile: "work_mem = '5MB'"}, "synchronous_standby_names archive_mode"},
		"nothing at all":     {17, nil, "synchronous_standby_names synchronized_standby_slots archive_mode"},
		"an include":         {16, map[string]string{pgconf.MainFile: "include_if_exists '/etc/pg/more.conf'"}, "synchronous_standby_names archive_mode"},
		"ALTER SYSTEM":       {16, map[string]string{pgconf.AutoFile: "archive_mode = off\nsynchronous_standby_names = ''"}, ""},
		"all is there":       {17, map[string]string{pgconf.MainFile: "port = 1"}, ""},
	} {
		if got := names(c.major, c.files); got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
}

// TestAsides: a setting that a version does not know would keep its server from starting, and
// what is not in a file can be in one outside of the folder.
func TestAsides(t *testing.T) {
	for want, got := range map[string]map[string]string{
		"archive_mode max_logical_replication_workers synchronous_standby_names":                            asides(16),
		"archive_mode max_logical_replication_workers synchronized_standby_slots synchronous_standby_names": asides(17),
	} {
		if names := strings.Join(slices.Sorted(maps.Keys(got)), " "); names != want {
			t.Errorf("%s, want %s", names, want)
		}
	}
}

// TestConcerns: what can keep a server from starting on this machine is said, and nothing else.
func TestConcerns(t *testing.T) {
	for main, says := range map[string]string{
		"include '/etc/pg/more.conf'":                            "see that it is there",
		"include 'more.conf'":                                    "see that it is there",
		"include '/etc/there'":                                   "reads what is there now",
		"include_dir '/etc/none'":                                "see that it is there",
		"include_if_exists '/etc/none'":                          "",
		"include_if_exists '/etc/there'":                         "reads what is there now",
		"hba_file = '/etc/none'":                                 "does not start without it",
		"ident_file = '/etc/there'":                              "not the one in its folder",
		"hba_file = 'hba.conf'":                                  "",
		"ssl = on\nssl_key_file = '/etc/none'":                   "set ssl to off",
		"ssl = on\nssl_cert_file = '/etc/there'":                 "",
		"ssl = off\nssl_key_file = '/etc/none'":                  "",
		"ssl = on\nssl_cert_file = 'server.crt'":                 "",
		"huge_pages = on":                                        "too few",
		"huge_pages = try":                                       "",
		"logging_collector = on\nlog_directory = '/var/log/old'": "writes its log there",
		"logging_collector = on\nlog_directory = 'log'":          "",
		"session_preload_libraries = 'auto_explain'":             "nothing can connect",
		"shared_preload_libraries = 'a, pg_cron'":                "pg_cron runs its jobs",
		"port = 5433":                                            "",
	} {
		got := judged(15, main, "", "/etc/there").Concerns
		if says == "" && len(got) != 0 || says != "" && (len(got) != 1 || !strings.Contains(got[0], says)) {
			t.Errorf("%q: %q", main, got)
		}
	}
	if c := judged(15, "port = 7\nlisten_addresses = '*'\nshared_preload_libraries = 'a,b'", ""); c.Port != "7" || c.ListenAddresses != "*" || !slices.Equal(c.Preload, []string{"a", "b"}) {
		t.Errorf("%+v", c)
	}
}

// TestMissingLibraries: of libraries in PostgreSQL's folder those that are there are not missing.
func TestMissingLibraries(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"bin/postgres", "lib/plpgsql.so", "lib/one.so", "elsewhere/two.so"} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := Configuration{Preload: []string{"one", "$libdir/one", filepath.Join(root, "elsewhere/two"), "three", "$libdir/three.so"}}
	if missing, known := c.MissingLibraries(filepath.Join(root, "bin")); !known || !slices.Equal(missing, []string{"three", "$libdir/three.so"}) {
		t.Errorf("%q, %t", missing, known)
	}
	if missing, known := c.MissingLibraries(t.TempDir()); known {
		t.Errorf("in a folder that has no PostgreSQL: %q", missing)
	}
	c.LibraryPath = "/opt"
	if missing, known := c.MissingLibraries(filepath.Join(root, "bin")); known {
		t.Errorf("with a path of the settings: %q", missing)
	}
}

// TestHold: whatever else is in the data folder, the files that a server reads first are held, and
// those of databases and logs are not.
func TestHold(t *testing.T) {
	l := &listed{config: map[string]heldFile{}}
	for i := range 2 * maxConfigFiles {
		l.hold(&physical.File{Path: fmt.Sprintf("conf.d/%d.conf", i), Kind: physical.KindOther}, nil)
	}
	for path, want := range map[string]bool{"postgresql.conf": true, "postgresql.auto.conf": true, "other.conf": false, "base/5/1": false} {
		l.hold(&physical.File{Path: path, Kind: physical.KindOther}, nil)
		if _, held := l.config[path]; held != want {
			t.Errorf("%s is held: %t", path, held)
		}
	}
	for path, want := range map[string]bool{"more": true, "a/b.conf": true, "log/postgresql.log": false, "recovery.conf": false, "base/5/PG_VERSION": false} {
		if got := mayBeConfig(&physical.File{Path: path, Kind: physical.KindOther}); got != want {
			t.Errorf("%s may be a file of settings: %t", path, got)
		}
	}
	if mayBeConfig(&physical.File{Path: "large.conf", Kind: physical.KindOther, SizeBytes: maxConfigBytes + 1}) {
		t.Error("a large file may be one of settings")
	}
}
