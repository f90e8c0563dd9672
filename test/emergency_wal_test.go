package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// walScene is a place whose server streams its WAL, with a base backup from before all that
// happens.
type walScene struct {
	*runbook
	server *scratch.Server
	port   string
	stream *exec.Cmd
}

// streaming makes the imaginary place one with a server of its own that streams WAL.
func (r *runbook) streaming() *walScene {
	r.t.Helper()
	old := r.old
	s := &walScene{runbook: r, server: scratchtest.New(r.t, scratch.Options{Settings: map[string]string{
		"wal_level": "replica", "hot_standby": "on", "synchronous_commit": "on", // as everywhere, and what is committed is flushed
	}})}
	r.old = s.server
	r.t.Cleanup(func() { r.old = old })
	fixture.Exec(r.t, s.server.DSN("postgres"), "CREATE DATABASE clinic")
	fixture.Exec(r.t, s.server.DSN("clinic"), "CREATE TABLE claims (id bigint PRIMARY KEY, payer text)",
		"INSERT INTO claims SELECT i, 'payer ' || i FROM generate_series(1, 500) AS i")
	// PostgreSQL's own user runs pgmedic, too.
	for _, folder := range []string{"pg", "walstore"} {
		if err := os.Mkdir(r.at(folder), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	r.write("pgmedic", string(readFile(r.t, binary)), 0o755)
	r.write("bin/pgmedic", "#!/bin/sh\nexec "+r.at("pgmedic")+" --yes \"$@\"\n", 0o755)
	r.env = append(r.env, "PGHOST="+s.server.SocketDir(), "PGPORT="+strconv.Itoa(s.server.Port()), "PGUSER="+s.server.Superuser(), "PGMEDIC_POSTGRES_DIRS="+s.server.BinDir())
	s.hand("pg", "etc", "walstore")
	s.begin(s.server)
	r.bash("pgmedic backup --method physical", 0)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	s.port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close()
	return s
}

// hand gives folders to the user that PostgreSQL runs as.
func (s *walScene) hand(folders ...string) {
	s.t.Helper()
	for _, folder := range folders {
		if out, err := exec.Command("chown", "-R", "--reference="+s.server.DataDir(), s.at(folder)).CombinedOutput(); err != nil {
			s.t.Fatalf("%v: %s", err, out)
		}
	}
}

// begin configures a server and streams from it.
func (s *walScene) begin(server *scratch.Server) {
	s.t.Helper()
	public := strings.TrimSpace(s.bash("age-keygen -y "+s.at("etc/identity.txt"), 0))
	s.write("etc/pgmedic.yaml", fmt.Sprintf("server: clinic-db1\ndatabase: {host: %q, port: %d, name: clinic, user: %s}\nbackup: {store: %s, recipients: [%s]}\nwal: {stream: true, max_delay: 1s, slot: ours}\n",
		server.SocketDir(), server.Port(), server.Superuser(), s.at("walstore"), public), 0o644)
	s.stream = exec.Command(s.at("pgmedic"), "wal", "stream", "--quiet")
	s.stream.Dir, s.stream.Env, s.stream.SysProcAttr = s.work, s.env, &syscall.SysProcAttr{Credential: ownerOf(s.t, s.server.DataDir())}
	if err := s.stream.Start(); err != nil {
		s.t.Fatal(err)
	}
	stream := s.stream
	s.t.Cleanup(func() { s.end(stream) })
	s.stored(server)
}

// end stops a stream, which stores what has arrived.
func (s *walScene) end(stream *exec.Cmd) {
	if stream.ProcessState == nil {
		_ = stream.Process.Signal(syscall.SIGTERM)
		_ = stream.Wait()
	}
}

// stored waits until all that a server has written is. An earlier stream, of another timeline,
// may have stored as far: first, what is streamed now has to have arrived.
func (s *walScene) stored(server *scratch.Server) {
	s.t.Helper()
	end := fixture.Query[string](s.t, server.DSN("postgres"), "SELECT pg_current_wal_flush_lsn()::text")[0]
	until := regexp.MustCompile(`stored until +([0-9A-F]+/[0-9A-F]+)`)
	testkit.Eventually(s.t, time.Minute, "the stream has stored WAL up to "+end, func() bool {
		return fixture.Query[bool](s.t, server.DSN("postgres"), "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = 'pgmedic wal' AND flush_lsn >= '"+end+"')")[0]
	})
	testkit.Eventually(s.t, time.Minute, "WAL is stored up to "+end, func() bool {
		m := until.FindStringSubmatch(s.bash("pgmedic wal status || true", 0))
		return m != nil && fixture.Query[bool](s.t, server.DSN("postgres"), "SELECT '"+m[1]+"'::pg_lsn >= '"+end+"'::pg_lsn")[0]
	})
}

// recovers runs the page's commands about a recovered server, which is stopped at the end.
func (s *walScene) recovers(moment, folder string, names ...string) string {
	s.t.Helper()
	s.hand("walstore") // what is stored meanwhile is root's
	for _, name := range names {
		commands := s.blocks[name]
		if commands == "" {
			s.t.Fatalf("the page has no commands %q", name)
		}
		s.blocks[name] = strings.NewReplacer("2026-11-29 10:41:59+00", moment, "/srv/pg", s.at("pg"), "/var/run/postgresql", s.server.SocketDir(), "5544", s.port).Replace(commands)
	}
	s.t.Cleanup(func() {
		pid, _, _ := strings.Cut(string(readFile(s.t, filepath.Join(s.at("pg"), folder, "postmaster.pid"))), "\n")
		n, err := strconv.Atoi(pid)
		if err != nil {
			s.t.Fatal(err)
		}
		(&clusterBench{walBench: &walBench{bench: &bench{t: s.t}}}).stop(n)
	})
	return s.follow(names...)
}

func (r *runbook) lostServerWAL() {
	s := r.streaming()
	fixture.Exec(r.t, s.server.DSN("clinic"), "INSERT INTO claims VALUES (501, 'the last one')")
	s.stored(s.server)
	s.end(s.stream)
	r.says(s.recovers("", "restored", "wal-server-look", "wal-server"), `recoverable`, `^ +501$`)
}

func (r *runbook) wrongChange() {
	s := r.streaming()
	fixture.Exec(r.t, s.server.DSN("clinic"), "INSERT INTO claims VALUES (502, 'payer 502')")
	moment := fixture.Query[string](r.t, s.server.DSN("clinic"), "SELECT clock_timestamp()::timestamptz(6)::text")[0]
	fixture.Exec(r.t, s.server.DSN("clinic"), "UPDATE claims SET payer = 'nobody'", "INSERT INTO claims VALUES (501, 'right, and later')")
	s.stored(s.server)
	right := func(by string) {
		r.t.Helper()
		if got := fixture.Query[string](r.t, s.server.DSN("clinic"), "SELECT count(*) FILTER (WHERE payer = 'payer ' || id) || ' ' || count(*) FILTER (WHERE payer = 'right, and later') FROM claims")[0]; got != "501 1" {
			r.t.Errorf("%s: rows that are as before, and later ones: %s", by, got)
		}
	}
	for _, name := range []string{"wal-table-look", "wal-table"} {
		s.blocks[name] = strings.ReplaceAll(s.blocks[name], "2026-11-29 10:41:59+00", moment)
	}
	schema := regexp.MustCompile(`(?m)^pgmedic_\S+$`).FindString(s.follow("wal-table-look", "wal-table"))
	fixture.Exec(r.t, s.server.DSN("clinic"), strings.ReplaceAll(r.mends("## Wrong change, with WAL"), "SCHEMA", schema))
	right("by the table of the moment")
	fixture.Exec(r.t, s.server.DSN("clinic"), `DROP SCHEMA "`+schema+`" CASCADE`, "UPDATE claims SET payer = 'nobody' WHERE id <> 501")
	s.recovers(moment, "before", "wal-change-look", "wal-change", "wal-change-beside")
	fixture.Exec(r.t, s.server.DSN("clinic"), r.mends("### Wrong change, by a second server"))
	right("by a second server")
}

// mends is what a part of the page says of how to mend the rows, between BEGIN and COMMIT.
func (r *runbook) mends(part string) string {
	r.t.Helper()
	mend := regexp.MustCompile("(?s)" + regexp.QuoteMeta(part) + "\n.*?```sql\nBEGIN;\n(.*?)COMMIT;\n").FindStringSubmatch(fixture.ReadFile(r.t, "docs/emergency.md"))
	if mend == nil {
		r.t.Fatalf("%s does not say how to mend the rows", part)
	}
	return mend[1]
}

func (r *runbook) lostCommits() {
	s := r.streaming()
	standby := scratchtest.NewStandby(r.t, s.server, scratch.StandbyOptions{})
	standby.CatchUp(r.t)
	standby.Promote(r.t)
	for id := 501; id <= 503; id++ {
		fixture.Exec(r.t, s.server.DSN("clinic"), fmt.Sprintf("INSERT INTO claims VALUES (%d, 'lost')", id))
	}
	s.stored(s.server)
	s.end(s.stream)
	// The new primary goes on.
	fixture.Exec(r.t, standby.DSN("clinic"), "INSERT INTO claims VALUES (601, 'after the failover')")
	s.begin(standby.Server)
	r.says(s.recovers("", "lost", "wal-failover-look", "wal-failover"), "branch  failover lost 3 transactions, .* to .* UTC; `restore --timeline 1` has them")
	rows := r.bash("grep -c ',lost$' claims-lost.csv; grep -c 'after the failover' claims-lost.csv || true", 0)
	if rows != "3\n0\n" {
		r.t.Errorf("lost rows, and later ones, are %q", rows)
	}
}
