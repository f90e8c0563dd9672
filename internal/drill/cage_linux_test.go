package drill_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/test/fixture"
)

const (
	// planted stands in the files and environments that content must not read.
	planted = "AGE-SECRET-KEY-NOT-A-REAL-ONE"
	// reached is what an attack says that got through.
	reached = "REACHED"
)

// surroundings are what is around a drill's server, for its content to reach.
type surroundings struct {
	dir, key, note, store string
	victim                *exec.Cmd
	abstract, tcp         net.Listener
}

// surround makes them. Nothing but the cage keeps content out: modes are open.
func surround(t *testing.T) *surroundings {
	t.Helper()
	s := &surroundings{dir: scratchDir(t)}
	s.key, s.note, s.store = filepath.Join(s.dir, "identity.key"), filepath.Join(s.dir, "note"), filepath.Join(s.dir, "store")
	for path, mode := range map[string]os.FileMode{s.key: 0o644, s.note: 0o666} {
		if err := os.WriteFile(path, []byte(planted), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(s.store, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{s.dir, s.store, server.Dir(), server.SocketDir(), s.socket()} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Unix(1_000_000_000, 0)
	if err := os.Chtimes(s.note, past, past); err != nil {
		t.Fatal(err)
	}
	s.victim = exec.Command("sleep", "3600")
	s.victim.Env = []string{"PATH=" + os.Getenv("PATH")}
	if err := s.victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.victim.Process.Kill()
		_ = s.victim.Wait()
	})
	var err error
	if s.abstract, err = net.Listen("unix", "@pgmedic-test-"+filepath.Base(s.dir)); err != nil {
		t.Fatal(err)
	}
	if s.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = s.abstract.Close(), s.tcp.Close() })
	return s
}

func (s *surroundings) socket() string {
	return filepath.Join(server.SocketDir(), ".s.PGSQL."+strconv.Itoa(server.Port()))
}

// script is what content runs as a program. Each line says REACHED and what it
// reached.
func (s *surroundings) script() string {
	try := func(what, command string) string { return "{ " + command + "; } && echo " + reached + " " + what }
	return strings.Join([]string{
		"exec 2>&1", "echo RAN",
		try("key", "cat "+s.key),
		try("environment", `cat /proc/[0-9]*/environ | tr "\0" "\n" | grep -a NOT-A-REAL`),
		try("processes", "ls /proc/"+strconv.Itoa(os.Getpid())),
		try("folder", "ls "+s.dir), try("temporary", "ls /tmp"), try("home", "ls /root /home"),
		try("passwords", "cat /etc/passwd /etc/shadow"),
		try("write", "echo x > "+s.dir+"/new"), try("overwrite", "echo x > "+s.note), try("append", "echo x >> "+s.note),
		try("link", "ln "+s.note+" note"), try("rename", "mv "+s.note+" "+s.note+"2"), try("remove", "rm -f "+s.key),
		try("owner", "chown 12345 "+s.note),
		// Whether these did anything the test looks itself.
		"chmod 0600 " + s.note, "touch " + s.note,
		try("kill", "kill -9 "+strconv.Itoa(s.victim.Process.Pid)),
		try("server", filepath.Join(server.BinDir(), "psql")+" -Atc 'SELECT 1' -U postgres -d postgres -h "+server.SocketDir()+" -p "+strconv.Itoa(server.Port())),
		try("tcp", fmt.Sprintf("bash -c 'echo > /dev/tcp/%s'", strings.Replace(s.tcp.Addr().String(), ":", "/", 1))),
		try("abstract", `perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0) && connect(S, pack_sockaddr_un("\0" . "`+strings.TrimPrefix(s.abstract.Addr().String(), "@")+`")) or exit 1'`),
		try("datagrams", `perl -MSocket -e 'socket(S, AF_UNIX, SOCK_DGRAM, 0) or exit 1'`),
		try("privileges", "su -c true"),
		// What outlives its parent must not outlive the drill.
		"setsid " + s.survivor() + " </dev/null >/dev/null &",
		"true",
	}, "\n")
}

// function is content: it runs when its table is loaded, in a drill only.
func (s *surroundings) function(script string) string {
	sql := func(what, statement string) string {
		return fmt.Sprintf("BEGIN EXECUTE %s; said := said || '%s %s ' ; EXCEPTION WHEN OTHERS THEN said := said || '%s: ' || SQLERRM || chr(10); END;",
			sqltext.QuoteLiteral(statement), reached, what, what)
	}
	return "CREATE FUNCTION public.attack(i int) RETURNS boolean LANGUAGE plpgsql AS $f$ DECLARE said text := 'RAN SQL' || chr(10); BEGIN " +
		"IF current_database() LIKE 'pgmedic_drill%' THEN " +
		sql("key", "SELECT pg_read_file("+sqltext.QuoteLiteral(s.key)+")") +
		sql("environment", "SELECT pg_read_file('/proc/"+strconv.Itoa(os.Getpid())+"/environ')") +
		sql("copied key", "CREATE TEMP TABLE loot_key (a text); COPY loot_key FROM "+sqltext.QuoteLiteral(s.key)) +
		sql("folder", "SELECT pg_ls_dir("+sqltext.QuoteLiteral(s.dir)+")") +
		sql("imported key", "SELECT lo_unlink(lo_import("+sqltext.QuoteLiteral(s.key)+"))") +
		"PERFORM lo_from_bytea(424242, 'x'); " +
		sql("export", "SELECT lo_export(424242, "+sqltext.QuoteLiteral(s.dir+"/exported")+")") +
		"PERFORM lo_unlink(424242); " +
		sql("copy out", "COPY (SELECT 1) TO "+sqltext.QuoteLiteral(s.dir+"/copied")) +
		sql("library", "LOAD "+sqltext.QuoteLiteral(s.key)) +
		sql("owner", "SELECT pg_read_file('../socket/../owner')") +
		"EXECUTE 'COPY (SELECT ' || quote_literal(said) || ') TO ' || quote_literal(current_setting('data_directory') || '/loot.sql'); " +
		"EXECUTE 'COPY (SELECT 1) TO PROGRAM ' || quote_literal(" + sqltext.QuoteLiteral("cat >/dev/null; { "+script+"\n} > loot") + "); " +
		"END IF; RETURN true; END $f$"
}

// TestContentIsCaged drills a backup whose content attacks the host in all ways
// that we know, by its user and by root, and looks that it reached nothing. Last
// it takes the walls away: then the same content must reach what it went for, or
// nothing was tested.
func TestContentIsCaged(t *testing.T) {
	if scratchtest.AsUsers(t, "BACKUP_ENCRYPTION_KEY="+planted) == "" {
		return
	}
	scratchtest.NeedCage(t)
	s := surround(t)
	dsn := patients(t)
	fixture.Exec(t, dsn, s.function(s.script()), "CREATE TABLE a (a int CHECK (public.attack(a)))", "INSERT INTO a VALUES (1)")
	for name, method := range fixture.Methods(t, 2) {
		t.Run(name, func(t *testing.T) {
			c, b, _ := take(t, dsn, method)
			o := options(t, c, b)
			receipt, loot := s.drill(t, o)
			for line := range strings.Lines(loot) {
				if strings.Contains(line, reached) || strings.Contains(line, planted) {
					t.Errorf("the content reached something: %s", line)
				}
			}
			s.wantUntouched(t)
			wantCaged(t, receipt)
		})
	}
	t.Run("without walls", func(t *testing.T) {
		c, b, _ := take(t, dsn, backup.Plain{})
		o := options(t, c, b)
		o.Kernel = &scratch.Kernel{}
		t.Cleanup(func() {
			for _, pid := range s.survivors() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
		receipt, loot := s.drill(t, o)
		for _, what := range []string{"key", "write", "server", "tcp", "abstract", "datagrams"} {
			if !strings.Contains(loot, reached+" "+what) {
				t.Errorf("without walls the content does not reach %s: it is not tested\n%s", what, loot)
			}
		}
		// That one is closed by us, whatever the system offers.
		if strings.Contains(loot, reached+" environment") {
			t.Error("our environment can be read where no wall stands")
		}
		if !slices.Equal(receipt.Scratch.MissingWalls, pgmedic.Walls()) || receipt.Scratch.NoNetwork {
			t.Errorf("walls %q, missing %q", receipt.Scratch.Walls, receipt.Scratch.MissingWalls)
		}
		got := check(t, receipt, "cage")
		for _, wall := range pgmedic.Walls() {
			if got.Outcome != pgmedic.OutcomeWarn || !strings.Contains(got.Detail, string(wall)) {
				t.Errorf("%+v does not name %s", got, wall)
			}
		}
	})
}

// drill drills, and returns what the attack said.
func (s *surroundings) drill(t *testing.T, o drill.Options) (receipt *pgmedic.Receipt, loot string) {
	t.Helper()
	var said strings.Builder
	at(&o, "compare", func() {
		for _, name := range []string{"loot", "loot.sql"} {
			found, _ := filepath.Glob(filepath.Join(o.ScratchDir, "*", "data", name))
			for _, f := range found {
				said.WriteString(readText(t, f))
			}
		}
	})
	receipt, err := drill.Run(t.Context(), o)
	loot = said.String()
	if err != nil || receipt.Proof != pgmedic.ProofProven {
		t.Fatalf("%+v, %v", receipt, err)
	}
	if !strings.Contains(loot, "RAN\n") || !strings.Contains(loot, "RAN SQL") {
		t.Errorf("the attack did not run: %s", loot)
	}
	return receipt, loot
}

// wantUntouched looks at what the content can't be asked.
func (s *surroundings) wantUntouched(t *testing.T) {
	t.Helper()
	info, err := os.Stat(s.note)
	if err != nil || info.Mode().Perm() != 0o666 || info.ModTime().Unix() != 1_000_000_000 || readText(t, s.note) != planted {
		t.Errorf("a file was changed: %+v, %v", info, err)
	}
	left, err := os.ReadDir(s.dir)
	if err != nil || len(left) != 3 {
		t.Errorf("the folder holds %v: %v", left, err)
	}
	if state := readText(t, fmt.Sprintf("/proc/%d/stat", s.victim.Process.Pid)); strings.Contains(state, ") Z") {
		t.Error("a process was killed")
	}
	// An ordinary user may be kept from having a namespace, as in a chroot: see docs/limits.md.
	refused := exec.CommandContext(t.Context(), "unshare", "--user", "--pid", "--fork", "true").Run()
	var exit *exec.ExitError // anything else says nothing about namespaces
	namespaces := os.Geteuid() == 0 || !errors.As(refused, &exit)
	if left := s.survivors(); len(left) > 0 && !namespaces {
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	} else if len(left) > 0 {
		t.Error("a process of the content outlived the drill")
	}
}

// survivor is a command of the content that tries to outlive the drill.
func (s *surroundings) survivor() string { return "sleep 35" + strconv.Itoa(s.victim.Process.Pid) }

// survivors are the processes of it.
func (s *surroundings) survivors() (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err == nil && strings.TrimSpace(strings.ReplaceAll(string(text), "\x00", " ")) == s.survivor() {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// wantCaged looks that the receipt names all walls.
func wantCaged(t *testing.T, r *pgmedic.Receipt) {
	t.Helper()
	want := pgmedic.Walls()
	if os.Geteuid() != 0 {
		want = want[1:]
	}
	if !slices.Equal(r.Scratch.Walls, want) || !r.Scratch.NoNetwork {
		t.Errorf("walls %q, missing %q", r.Scratch.Walls, r.Scratch.MissingWalls)
	}
	if got := check(t, r, "cage"); got.Outcome != pgmedic.OutcomeOK {
		t.Errorf("%+v", got)
	}
}

func readText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}
