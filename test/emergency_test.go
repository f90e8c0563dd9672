package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// runbook runs the commands of docs/emergency.md as they stand there. What is
// replaced in them is the names of its imaginary place (see place); questions are
// answered with yes, since there is no terminal.
type runbook struct {
	t *testing.T
	// blocks are the page's commands by the name before them, used those that
	// were run.
	blocks map[string]string
	used   map[string]bool
	old    *scratch.Server
	spare  *scratch.Server
	// dir holds the imaginary place's folders, work is where commands run, id is
	// the backup that the page names.
	dir, work, id string
	env           []string
}

var tried = regexp.MustCompile("(?ms)^<!-- try: ([a-z-]+) -->\n```sh\n(.*?)^```$")

// TestEmergency does all that the runbook says, each in its situation. The
// servers are its own: roles and kept databases are the whole server's.
func TestEmergency(t *testing.T) {
	t.Parallel()
	r := newRunbook(t)
	left := 0
	type emergency struct {
		name string
		try  func(*runbook)
	}
	for _, emergency := range testkit.Few(t, 3, []emergency{
		{"first", (*runbook).first},
		{"lost server", (*runbook).lostServer},
		{"lost store", (*runbook).lostStore},
		{"lost server with WAL", (*runbook).lostServerWAL},
		{"wrong change with WAL", (*runbook).wrongChange},
		{"failover with lost commits", (*runbook).lostCommits},
		{"lost key", (*runbook).lostKey},
		{"without pgmedic", (*runbook).byHand},
		{"deleted table", (*runbook).deletedTable},
		{"deleted rows", (*runbook).deletedRows},
		{"bad migration", (*runbook).badMigration},
		{"break-in", (*runbook).breakIn},
		{"corrupt", (*runbook).corrupt},
		{"full disk", (*runbook).fullDisk},
		{"the guide with WAL", (*runbook).guideWAL},
		{"full pg_wal", (*runbook).fullWAL},
		{"inactive slot", (*runbook).inactiveSlot},
		{"wraparound", (*runbook).wraparoundNear},
		{"slow server", (*runbook).slowServer},
		{"failed failover", (*runbook).failedFailover},
		{"half-done restore", (*runbook).halfDone},
		{"tonight", (*runbook).tonight},
	}) {
		left++
		t.Run(emergency.name, func(t *testing.T) {
			r.t = t
			r.reset()
			emergency.try(r)
			left--
		})
	}
	for name := range r.blocks {
		if !r.used[name] && left == 0 && testkit.All() { // else some did not run
			t.Errorf("the commands %q were not tried", name)
		}
	}
}

func newRunbook(t *testing.T) *runbook {
	t.Helper()
	page := fixture.ReadFile(t, "docs/emergency.md")
	r := &runbook{t: t, blocks: map[string]string{}, used: map[string]bool{}}
	for _, m := range tried.FindAllStringSubmatch(page, -1) {
		if r.blocks[m[1]] != "" {
			t.Fatalf("two blocks are called %q", m[1])
		}
		r.blocks[m[1]] = m[2]
	}
	if n := strings.Count(page, "```sh"); n != len(r.blocks) || n < 20 {
		t.Fatalf("%d of %d blocks of commands have a name to be tried by", len(r.blocks), n)
	}
	r.old = scratchtest.New(t, scratch.Options{})
	r.spare = scratchtest.New(t, scratch.Options{})
	for _, sql := range []string{"CREATE ROLE nurse LOGIN PASSWORD 'x'", "CREATE DATABASE template_clinic TEMPLATE template0"} {
		fixture.Exec(t, r.old.DSN("postgres"), sql)
	}
	fixture.Exec(t, r.old.DSN("template_clinic"),
		"CREATE TABLE patients (id int PRIMARY KEY, name text)", "INSERT INTO patients SELECT i, 'p' || i FROM generate_series(1, 100) AS i",
		"CREATE TABLE claims (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, patient int NOT NULL REFERENCES patients, payer text)",
		"INSERT INTO claims (patient, payer) SELECT 1 + i % 100, 'payer ' || i FROM generate_series(1, 500) AS i",
		"CREATE FUNCTION fold(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)'",
		"CREATE INDEX claims_payer ON claims (public.fold(payer))", "CREATE VIEW open_claims AS SELECT id, payer FROM claims",
		"ALTER TABLE claims OWNER TO nurse")
	return r
}

// reset makes the imaginary place anew: a live database with 500 claims, an
// encrypted backup of it, and a copy of that at the configured place.
func (r *runbook) reset() {
	r.t.Helper()
	for _, s := range []*scratch.Server{r.old, r.spare} {
		names := fixture.Query[string](r.t, s.DSN("postgres"), "SELECT datname::text FROM pg_database WHERE datname ~ '^clinic'")
		for _, name := range names {
			fixture.Exec(r.t, s.DSN("postgres"), `DROP DATABASE "`+name+`" WITH (FORCE)`)
		}
	}
	fixture.Exec(r.t, r.old.DSN("postgres"), "CREATE DATABASE clinic TEMPLATE template_clinic")
	// The server's user has to get in, and the path of a socket is short.
	dir, err := os.MkdirTemp("", "e2e-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r.dir, r.work = dir, filepath.Join(dir, "work")
	bin := filepath.Join(dir, "bin")
	for _, folder := range []string{r.work, bin, r.at("etc"), r.at("tmp")} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	r.write("bin/pgmedic", "#!/bin/sh\nexec "+binary+" --yes \"$@\"\n", 0o755)
	r.env = []string{
		"PATH=" + bin + string(os.PathListSeparator) + r.old.BinDir() + string(os.PathListSeparator) + os.Getenv("PATH"),
		"HOME=" + r.work, "XDG_STATE_HOME=" + filepath.Join(r.work, ".local", "state"), "TMPDIR=" + r.at("tmp"), "PGPORT=" + strconv.Itoa(r.old.Port()), "PGUSER=" + r.old.Superuser(), "PGHOST=" + r.old.SocketDir(),
		"PGMEDIC_POSTGRES_DIRS=" + programs,
		"PGMEDIC_CONFIG=" + r.at("etc/pgmedic.yaml"), "PGMEDIC_IDENTITY_FILES=" + r.at("etc/identity.txt"),
	}
	safe, mine := r.keyPair("etc/from-the-safe.txt"), r.keyPair("etc/identity.txt")
	r.write("etc/pgmedic.yaml", fmt.Sprintf(`server: clinic-db1
database: {host: %q, port: %d, name: clinic, user: %s}
backup:
  store: %s
  recipients: [%s, %s]
copies:
  - {name: offsite, store: %s}
`, r.old.SocketDir(), r.old.Port(), r.old.Superuser(), r.at("store"), mine, safe, r.at("offsite")), 0o644)
	r.id = strings.TrimSpace(r.bash("pgmedic backup -q", 0))
}

func (r *runbook) at(name string) string { return filepath.Join(r.dir, name) }

func (r *runbook) write(name, text string, mode os.FileMode) {
	r.t.Helper()
	if err := os.WriteFile(r.at(name), []byte(text), mode); err != nil {
		r.t.Fatal(err)
	}
}

// keyPair makes a file with a secret key and returns the public one.
func (r *runbook) keyPair(file string) string {
	r.t.Helper()
	return strings.TrimSpace(r.bash("age-keygen -o "+r.at(file)+" 2>/dev/null && age-keygen -y "+r.at(file), 0))
}

// bash runs commands as a person would paste them, and returns what they print.
// The first that fails ends them.
func (r *runbook) bash(commands string, code int) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", commands)
	cmd.Dir, cmd.Env = r.work, r.env
	var stdout, both buffer
	cmd.Stdout, cmd.Stderr = writers{&stdout, &both}, &both
	err := cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		r.t.Fatalf("exit code %d, want %d (%v):\n%s\n%s", got, code, err, commands, both.String())
	}
	if code != 0 {
		return both.String()
	}
	return stdout.String()
}

// writers writes to several.
type writers []*buffer

func (w writers) Write(p []byte) (int, error) {
	for _, b := range w {
		_, _ = b.Write(p)
	}
	return len(p), nil
}

// follow runs the page's commands of these names, in one shell.
func (r *runbook) follow(names ...string) string {
	r.t.Helper()
	return r.end(0, names...)
}

func (r *runbook) end(code int, names ...string) string {
	r.t.Helper()
	var commands strings.Builder
	for _, name := range names {
		if r.blocks[name] == "" {
			r.t.Fatalf("the page has no commands %q", name)
		}
		r.used[name] = true
		commands.WriteString(r.blocks[name])
	}
	return r.bash(r.place(commands.String()), code)
}

// place replaces the names of the page's imaginary place. The database, the
// table, the roles, the server's name and that of the copy are as on the page.
func (r *runbook) place(commands string) string {
	return strings.NewReplacer(
		"/etc/pgmedic", r.at("etc"), "/var/backups/clinic", r.at("store"), "/mnt/offline", r.at("offline"),
		"db.internal", r.old.SocketDir(), "new.internal", r.spare.SocketDir(), "20261122T235007Z-a14d7c", r.id,
		"20261122t235007z_a14d7c", strings.ToLower(strings.ReplaceAll(r.id, "-", "_")),
	).Replace(commands)
}

// says checks an output.
func (r *runbook) says(output string, patterns ...string) {
	r.t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(`(?m)` + p).MatchString(output) {
			r.t.Errorf("it does not say %s:\n%s", p, output)
		}
	}
}

// claims is how many claims a database has.
func (r *runbook) claims(s *scratch.Server, database string) int64 {
	r.t.Helper()
	return fixture.Query[int64](r.t, s.DSN(database), "SELECT count(*) FROM public.claims")[0]
}

func (r *runbook) wantClaims(s *scratch.Server, database string, want int64) {
	r.t.Helper()
	if got := r.claims(s, database); got != want {
		r.t.Errorf("database %s has %d claims, want %d", database, got, want)
	}
}

func (r *runbook) live(statements ...string) {
	r.t.Helper()
	fixture.Exec(r.t, r.old.DSN("clinic"), statements...)
}

func (r *runbook) databasesOf(s *scratch.Server) string {
	r.t.Helper()
	return strings.Join(fixture.Query[string](r.t, s.DSN("postgres"), "SELECT datname::text FROM pg_database WHERE datname ~ '^clinic' ORDER BY 1"), " ")
}
