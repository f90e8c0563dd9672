package scratch_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func TestStartAndStop(t *testing.T) {
	for _, major := range scratchtest.Ends(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			parent := parentDir(t)
			began := time.Now()
			server := scratchtest.New(t, scratch.Options{Major: major, Parent: parent})
			t.Logf("PostgreSQL %s was up after %s", server.Version(), time.Since(began).Round(time.Millisecond))
			if server.Major() != major || !strings.HasPrefix(server.Version(), strconv.Itoa(major)) {
				t.Errorf("wanted PostgreSQL %d, got %d, %s", major, server.Major(), server.Version())
			}
			for sql, want := range map[string]string{
				"SELECT split_part(current_setting('server_version'), ' ', 1)": server.Version(),
				"SELECT current_user::text":                                    "postgres",
				"SHOW listen_addresses":                                        "",
				"SHOW fsync":                                                   "off",
				"SHOW full_page_writes":                                        "off",
				"SHOW synchronous_commit":                                      "off",
				"SHOW server_encoding":                                         "UTF8",
				"SHOW lc_collate":                                              "C",
				"SELECT datcollate::text FROM pg_database WHERE datname='postgres'": "C",
			} {
				if sql == "SHOW lc_collate" && major >= 16 {
					continue
				}
				if got := query(t, server.DSN("postgres"), sql); got != want {
					t.Errorf("%s: got %q, want %q", sql, got, want)
				}
			}
			checkModes(t, server)
			stopAndCheck(t, server, parent)
		})
	}
}

// checkModes checks that nobody else can look into a server's folder.
func checkModes(t *testing.T, server *scratch.Server) {
	t.Helper()
	for _, dir := range []string{server.Dir(), server.DataDir(), server.SocketDir()} {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s has mode %v", dir, info.Mode())
		}
	}
	socket := filepath.Join(server.SocketDir(), fmt.Sprintf(".s.PGSQL.%d", server.Port()))
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("socket %s: %v %v", socket, info.Mode(), err)
	}
}

// stopAndCheck stops a server, twice, and checks that nothing is left.
func stopAndCheck(t *testing.T, server *scratch.Server, parent string) {
	t.Helper()
	for range 2 {
		if err := server.Stop(t.Context()); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	select {
	case <-server.Done():
	default:
		t.Error("the process is still there after Stop")
	}
	if left := entries(t, parent); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	testkit.Eventually(t, time.Minute, "all processes are gone", func() bool { return len(processesIn(t, server.Dir())) == 0 })
}

func TestSeveralAtOnce(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	parent := parentDir(t)
	servers := make([]*scratch.Server, 4)
	group, ctx := errgroup.WithContext(t.Context())
	for i := range servers {
		group.Go(func() (err error) {
			servers[i], err = scratch.Start(ctx, scratch.Options{
				Parent: parent, TCP: i%2 == 0, SearchDirs: scratchtest.SearchDirs(),
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	ports := map[int]bool{}
	for _, server := range servers {
		if server == nil {
			continue
		}
		if dir := query(t, server.DSN("postgres"), "SHOW data_directory"); dir != server.DataDir() {
			t.Errorf("asked the server of %s, %s answered", server.DataDir(), dir)
		}
		ports[server.Port()] = true
		if err := server.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if len(ports) != 3 {
		t.Errorf("two servers with TCP share a port: %v", ports)
	}
	if left := entries(t, parent); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDurableAndSettings(t *testing.T) {
	server := scratchtest.New(t, scratch.Options{
		Durable:  true,
		InitArgs: []string{"--data-checksums"},
		Settings: map[string]string{
			"synchronous_commit": "local",
			"application_name":   `it's a \ "test"`,
			"work_mem":           "7MB",
		},
	})
	for name, want := range map[string]string{
		"fsync":              "on",
		"full_page_writes":   "on",
		"synchronous_commit": "local",
		"work_mem":           "7MB",
		"application_name":   `it's a \ "test"`,
		"data_checksums":     "on",
	} {
		if got := query(t, server.DSN("postgres"), "SHOW "+name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestImpossibleOptions(t *testing.T) {
	for name, opts := range map[string]scratch.Options{
		"missing version": {Major: 99},
		"no programs":     {BinDir: "/"},
		"other version":   {BinDir: scratchtest.New(t, scratch.Options{}).BinDir(), Major: 99},
		"own setting":     {Settings: map[string]string{"Port": "5432"}},
		"no setting":      {Settings: map[string]string{"a = 1\nb": "2"}},
		"long name":       {Superuser: strings.Repeat("x", 64)},
		"reserved name":   {Superuser: "pg_x"},
		"long parent":     {Parent: "/tmp/" + strings.Repeat("x", 80)},
		"parent as list":  {Parent: "/tmp/a,b"},
	} {
		t.Run(name, func(t *testing.T) {
			opts.SearchDirs = append(opts.SearchDirs, scratchtest.SearchDirs()...)
			server, err := scratch.Start(t.Context(), opts)
			if err == nil {
				_ = server.Stop(t.Context())
				t.Fatal("it started")
			}
			if pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
				t.Errorf("got kind %v, hint %q: %v", pgmedic.KindOf(err), pgmedic.HintOf(err), err)
			}
			if name == "missing version" && !strings.Contains(pgmedic.HintOf(err), "postgresql-99") {
				t.Errorf("the hint doesn't name the package: %s", pgmedic.HintOf(err))
			}
		})
	}
}

func TestTCPAsksForThePassword(t *testing.T) {
	for _, major := range scratchtest.Ends(t) {
		for name, password := range map[string]string{"given": `p'a\s s@/:word`, "random": ""} {
			t.Run(fmt.Sprintf("%d %s", major, name), func(t *testing.T) {
				server := scratchtest.New(t, scratch.Options{Major: major, TCP: true, Password: password})
				if password != "" && server.Password() != password {
					t.Errorf("password is %q", server.Password())
				}
				address := query(t, server.URL("postgres"), "SELECT host(inet_server_addr())")
				if address != "127.0.0.1" {
					t.Errorf("connected to %s", address)
				}
				u, err := url.Parse(server.URL("postgres"))
				if err != nil {
					t.Fatal(err)
				}
				for _, wrong := range []string{"", "guess"} {
					u.User = url.UserPassword("postgres", wrong)
					if conn, err := pgx.Connect(t.Context(), u.String()); err == nil {
						_ = conn.Close(t.Context())
						t.Errorf("let in with password %q", wrong)
					}
				}
			})
		}
	}
}

func TestOddSuperusers(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	names := []string{
		`we ird"x`, `O'Brien`, `back\slash`, "Ünïcode", "two\nlines", "a=b", "user", "-D", "Postgres",
		strings.Repeat("n", 63),
	}
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(3)
	for _, name := range names {
		group.Go(func() error {
			server, err := scratch.Start(ctx, scratch.Options{Superuser: name, SearchDirs: scratchtest.SearchDirs()})
			if err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
			defer func() { _ = server.Stop(ctx) }()
			const roles = "SELECT string_agg(oid || ' ' || rolname, ',') FROM pg_roles WHERE rolname !~ '^pg_'"
			for _, dsn := range []string{server.DSN("postgres"), server.URL("postgres")} {
				if got := query(t, dsn, roles); got != "10 "+name {
					t.Errorf("the roles with superuser %q are %q", name, got)
				}
			}
			return checkPsql(ctx, server, name)
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// checkPsql checks that libpq reads the connection string as pgx does, where
// psql is installed beside the server.
func checkPsql(ctx context.Context, server *scratch.Server, name string) error {
	psql := filepath.Join(server.BinDir(), "psql")
	if !exists(psql) {
		return nil
	}
	out, err := exec.CommandContext(ctx, psql, "-XAtc", "SELECT current_user", server.DSN("postgres")).CombinedOutput()
	if got := strings.TrimSuffix(string(out), "\n"); err != nil || got != name {
		return fmt.Errorf("psql as %q: %w %s", name, err, got)
	}
	return nil
}

func TestServerUser(t *testing.T) {
	if !exists("/proc/self/status") {
		testkit.Elsewhere(t, "needs a /proc")
	}
	want := map[string]string{"": strconv.Itoa(os.Geteuid())}
	if os.Geteuid() == 0 {
		want = map[string]string{"": "", "nobody": ""}
		for name := range want {
			found, err := user.Lookup(map[string]string{"": "postgres"}[name] + name)
			if err != nil {
				t.Fatal(err)
			}
			want[name] = found.Uid
		}
	}
	t.Setenv("PGMEDIC_TEST_SECRET", "hunter2")
	for name, uid := range want {
		t.Run("as "+name, func(t *testing.T) {
			server := scratchtest.New(t, scratch.Options{OSUser: name})
			if got := statusLine(t, server.PID(), "Uid"); slices.ContainsFunc(got, func(s string) bool { return s != uid }) {
				t.Errorf("the server runs as %v, not %s", got, uid)
			}
			if got := statusLine(t, server.PID(), "Groups"); os.Geteuid() == 0 && len(got) > 0 {
				t.Errorf("the server has further groups: %v", got)
			}
			if group, err := syscall.Getpgid(server.PID()); err != nil || group != server.PID() {
				t.Errorf("the server is in process group %d: %v", group, err)
			}
			environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", server.PID()))
			if err != nil || strings.Contains(string(environment), "hunter2") {
				t.Errorf("the server sees our environment: %v", err)
			}
			if info, err := os.Stat(server.Dir()); err != nil || strconv.Itoa(int(info.Sys().(*syscall.Stat_t).Uid)) != uid {
				t.Errorf("the folder belongs to %v: %v", info.Sys(), err)
			}
		})
	}
}

func TestRootIsRefusedAsServerUser(t *testing.T) {
	if os.Geteuid() != 0 {
		testkit.Elsewhere(t, "only root can choose the server's user")
	}
	for _, name := range []string{"root", "no-such-user"} {
		_, err := scratch.Start(t.Context(), scratch.Options{OSUser: name, SearchDirs: scratchtest.SearchDirs()})
		if pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("as %s: %v", name, err)
		}
	}
}

func TestUnreachableParent(t *testing.T) {
	if os.Geteuid() != 0 {
		testkit.Elsewhere(t, "an ordinary user's server reaches what the user reaches")
	}
	closed := filepath.Join(parentDir(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	opts := scratch.Options{Parent: closed, SearchDirs: scratchtest.SearchDirs()}
	_, err := scratch.Start(t.Context(), opts)
	if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(pgmedic.HintOf(err), closed) {
		t.Errorf("got %v, hint %q", err, pgmedic.HintOf(err))
	}
	if left := entries(t, closed); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	t.Setenv("TMPDIR", closed)
	server := scratchtest.New(t, scratch.Options{})
	if filepath.Dir(server.Dir()) != "/tmp" {
		t.Errorf("the folder is %s", server.Dir())
	}
}

func TestLongTempDir(t *testing.T) {
	long := filepath.Join(parentDir(t), strings.Repeat("long", 20))
	if err := os.Mkdir(long, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	server := scratchtest.New(t, scratch.Options{})
	if filepath.Dir(server.Dir()) != "/tmp" {
		t.Errorf("the folder is %s", server.Dir())
	}
}

func TestParentWithOddName(t *testing.T) {
	parent := filepath.Join(parentDir(t), `it's "odd" \ %d`)
	if err := os.Mkdir(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	server := scratchtest.New(t, scratch.Options{Parent: parent})
	for _, dsn := range []string{server.DSN("postgres"), server.URL("postgres")} {
		if got := query(t, dsn, "SHOW data_directory"); got != server.DataDir() {
			t.Errorf("data is in %s, not %s", got, server.DataDir())
		}
	}
}

func TestTablespaceDir(t *testing.T) {
	server := scratchtest.New(t, scratch.Options{})
	conn := testkit.Connect(t, server.DSN("postgres"))
	for _, name := range []string{"fast", "..", "a/b", `it's "odd"`, strings.Repeat("ü", 31)} {
		dir, err := server.TablespaceDir(name)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := server.TablespaceDir(name); err != nil || again != dir {
			t.Errorf("asked again: %s, %v", again, err)
		}
		sql := "CREATE TABLESPACE " + sqltext.QuoteIdent(name) + " LOCATION " + sqltext.QuoteLiteral(dir)
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestFind(t *testing.T) {
	server := scratchtest.New(t, scratch.Options{})
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "15"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(server.BinDir(), filepath.Join(root, "15", "bin")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{root, filepath.Join(root, "15"), server.BinDir()} {
		found, err := scratch.Find(t.Context(), scratch.FindOptions{SearchDirs: []string{dir, "/no/such", ""}})
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for i, installation := range found {
			if installation.BinDir == server.BinDir() {
				count++
			}
			if i > 0 && installation.Major > found[i-1].Major {
				t.Errorf("not the newest first: %v", found)
			}
		}
		if count != 1 {
			t.Errorf("%s was found %d times in %s: %v", server.BinDir(), count, dir, found)
		}
	}
}
