package test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// terminal is the program at a terminal of its own, with a person who types.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	screen *buffer // all that was written to the terminal
	since  int     // of it was there before the last key
	slave  *os.File
	before *unix.Termios
	done   chan struct{}
}

// terminal starts the program at a terminal of the given size.
func (b *bench) terminal(t *testing.T, columns, rows uint16, args ...string) *terminal {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(master, &pty.Winsize{Cols: columns, Rows: rows}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, slave: slave, screen: &buffer{}, done: make(chan struct{})}
	term.before = term.modes()
	term.cmd = exec.Command(binary, args...)
	term.cmd.Dir, term.cmd.Env = b.dir, append(slices.Clone(b.env), "TERM=xterm-256color")
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		var p [4096]byte
		for {
			n, err := master.Read(p[:])
			_, _ = term.screen.Write(p[:n])
			if err != nil {
				return
			}
		}
	}()
	go func() {
		_ = term.cmd.Wait() // ProcessState has it
		close(term.done)
	}()
	t.Cleanup(func() {
		_ = term.cmd.Process.Kill()
		<-term.done
		_ = slave.Close()
		_ = master.Close()
		<-read
	})
	return term
}

func (term *terminal) modes() *unix.Termios {
	term.t.Helper()
	modes, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	return modes
}

// sees waits until the terminal is shown a text since the last key. Only what
// changes on a screen is written to it.
func (term *terminal) sees(text string) {
	term.t.Helper()
	seen := false
	defer func() {
		if !seen {
			term.t.Logf("the terminal shows:\n%q", term.screen.String())
		}
	}()
	testkit.Eventually(term.t, 30*time.Second, fmt.Sprintf("the terminal shows %q", text), func() bool {
		seen = strings.Contains(term.screen.String()[term.since:], text)
		return seen
	})
}

func (term *terminal) types(keys string) {
	term.t.Helper()
	term.since = len(term.screen.String())
	if _, err := term.master.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// ends waits for the program's end and checks that the terminal is as it was.
func (term *terminal) ends(code int) string {
	term.t.Helper()
	select {
	case <-term.done:
	case <-time.After(time.Minute):
		term.t.Fatalf("the program still runs:\n%q", term.screen.String())
	}
	if got := term.cmd.ProcessState.ExitCode(); got != code {
		term.t.Errorf("exit code %d, want %d:\n%q", got, code, term.screen.String())
	}
	// What it wrote last may still be on its way, but not behind what is written now.
	const end = "<the end>"
	if _, err := term.slave.WriteString(end); err != nil {
		term.t.Fatal(err)
	}
	testkit.Eventually(term.t, time.Minute, "all that it wrote is read", func() bool { return strings.HasSuffix(term.screen.String(), end) })
	testkit.Eventually(term.t, time.Minute, "the terminal, its screen and its cursor are given back", func() bool {
		shown := term.screen.String()
		return *term.modes() == *term.before && strings.Count(shown, "\x1b[?1049h") == strings.Count(shown, "\x1b[?1049l") &&
			strings.Count(shown, "\x1b[?25l") <= strings.Count(shown, "\x1b[?25h")
	})
	return strings.TrimSuffix(term.screen.String(), end)
}

const (
	keyDown  = "\x1b[B"
	keyEnter = "\r"
	keyEsc   = "\x1b"
	keyCtrlC = "\x03"
)

// TestChoose picks a backup at a terminal, in each way, and leaves in each.
func TestChoose(t *testing.T) {
	b := newBench(t, patients("10")...)
	first := strings.TrimSpace(b.ok("backup", "-q", "--label", "release=seven"))
	mustExec(t, b.database, "DELETE FROM patients WHERE id > 4")
	second := strings.TrimSpace(b.ok("backup", "-q"))
	copies := func() []string { return databasesOf(t, b.database+"_") }

	t.Run("search, new database", func(t *testing.T) {
		term := b.terminal(t, 80, 24, "restore")
		term.sees(second)
		term.types("relSEVENx\x7f\x15seven rel")
		term.sees("release=seven")
		term.types(keyEnter)
		term.sees("beside the living one")
		term.types(keyEnter)
		term.sees("of which name")
		term.types("\x15" + b.database + "_picked" + keyEnter)
		if out := term.ends(0); !strings.Contains(out, "restored") {
			t.Errorf("it says %q", out)
		}
		if got := query(t, b.database+"_picked", "SELECT count(*)::text FROM patients"); !slices.Equal(got, []string{"10"}) {
			t.Errorf("the copy has %q patients, want those of %s", got, first)
		}
		mustExec(t, "postgres", "DROP DATABASE "+b.database+"_picked")
	})
	t.Run("older one, swap", func(t *testing.T) {
		term := b.terminal(t, 60, 15, "restore")
		term.sees(second)
		term.types(keyDown + keyEnter)
		term.sees("beside the living one")
		term.types(keyDown + keyEnter)
		term.sees("to go on: ")
		term.types(b.database + "\n")
		if out := term.ends(0); !strings.Contains(out, "swapped") {
			t.Errorf("it says %q", out)
		}
		if got := query(t, b.database, "SELECT count(*)::text FROM patients"); !slices.Equal(got, []string{"10"}) {
			t.Errorf("%q patients, want those of %s", got, first)
		}
		b.ok("rollback", b.database, "--yes")
	})
	had := copies()
	for name, tt := range map[string]struct {
		keys []string // each after what it waits for
		code int
		args []string
	}{
		"leave":                   {[]string{second, keyEsc}, 13, nil},
		"interrupt":               {[]string{second, keyCtrlC}, 130, nil},
		"no id, table":            {[]string{second, keyEsc}, 13, []string{"--table", "patients"}},
		"search, clear, leave":    {[]string{second, "zzz", "no backup has", keyEsc, second, keyEsc}, 13, nil},
		"interrupt what":          {[]string{second, keyEnter, "beside the living one", keyCtrlC}, 130, nil},
		"id given":                {[]string{"beside the living one", keyEsc}, 13, []string{first}},
		"interrupt the name":      {[]string{"beside the living one", keyEnter, "of which name", keyCtrlC}, 130, []string{first}},
		"another name for a swap": {[]string{second, keyEnter, "by backup " + second, "no\n"}, 13, []string{"--swap"}},
	} {
		t.Run(name, func(t *testing.T) {
			term := b.terminal(t, 80, 24, append([]string{"restore"}, tt.args...)...)
			for i := 0; i < len(tt.keys); i += 2 {
				term.sees(tt.keys[i])
				term.types(tt.keys[i+1])
			}
			term.ends(tt.code)
			if now := copies(); !slices.Equal(now, had) {
				t.Errorf("databases %q, there were %q", now, had)
			}
		})
	}
	t.Run("signal", func(t *testing.T) {
		term := b.terminal(t, 80, 24, "restore")
		term.sees(second)
		if err := term.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		term.ends(130)
	})
}

// TestAskForRoles asks before it changes roles that are there, and changes none
// where the answer is another.
func TestAskForRoles(t *testing.T) {
	b := newBench(t, patients("3")...)
	role := b.database + "_nurse"
	mustExec(t, "postgres", "CREATE ROLE "+role+" CONNECTION LIMIT 7")
	t.Cleanup(func() { mustExec(t, "postgres", "DROP ROLE "+role) })
	b.ok("backup", "-q")
	mustExec(t, "postgres", "ALTER ROLE "+role+" CONNECTION LIMIT 3")
	for keys, code := range map[string]int{"yes\n": 13, "\n": 13, keyCtrlC: 130} {
		term := b.terminal(t, 100, 24, "restore", "latest", "--into", b.database+"_copy", "--globals=all")
		term.sees("Change these roles? Type \"change\" to go on: ")
		term.types(keys)
		if out := term.ends(code); !strings.Contains(out, role) {
			t.Errorf("it does not name the role: %q", out)
		}
	}
	if got := query(t, "postgres", "SELECT rolconnlimit::text FROM pg_roles WHERE rolname = '"+role+"'"); !slices.Equal(got, []string{"3"}) {
		t.Errorf("the limit is %q", got)
	}
	if left := databasesOf(t, b.database+"_"); len(left) > 0 {
		t.Errorf("databases %q", left)
	}
}

// TestChooseWithoutTerminal never asks where nobody can answer.
func TestChooseWithoutTerminal(t *testing.T) {
	b := newBench(t, patients("3")...)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	for _, args := range [][]string{{"restore"}, {"restore", id}, {"restore", "--swap"}, {"restore", "--into", "x"}, {"restore", "--table", "patients"}} {
		if r := b.run(args...); r.code != 2 || !strings.Contains(r.stderr, "hint: ") {
			t.Errorf("%v: exit code %d: %s", args, r.code, r.stderr)
		}
	}
	if r := b.run("restore", id, "--swap"); r.code != 13 {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	// A terminal that can't be drawn on, and one for the answers alone.
	for name, dumb := range map[string]bool{"dumb": true, "no terminal to show it on": false} {
		master, slave, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(binary, "restore")
		cmd.Dir, cmd.Env, cmd.Stdin = b.dir, slices.Clone(b.env), slave
		if dumb {
			cmd.Env, cmd.Stderr = append(cmd.Env, "TERM=dumb"), slave
		}
		_ = cmd.Run() // ProcessState has it
		if code := cmd.ProcessState.ExitCode(); code != 2 {
			t.Errorf("%s: exit code %d", name, code)
		}
		_ = slave.Close()
		_ = master.Close()
	}
}

// TestLogAtTerminal: what the configuration file says of logs is for jobs. A person
// at a terminal sees progress, unless records are asked for there.
func TestLogAtTerminal(t *testing.T) {
	t.Parallel()
	b := newBench(t, patients("10")...)
	if err := os.WriteFile(b.dir+"/pgmedic.yaml", []byte("log: {format: json}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const record = `"msg":"step done"`
	if shown := b.terminal(t, 100, 24, "backup").ends(0); strings.Contains(shown, `"msg"`) || !strings.Contains(shown, "data") {
		t.Errorf("a terminal shows:\n%s", shown)
	}
	if shown := b.terminal(t, 100, 24, "backup", "--log-format", "json").ends(0); !strings.Contains(shown, record) {
		t.Errorf("a terminal that asks for records shows:\n%s", shown)
	}
	if r := b.run("backup"); r.code != 0 || !strings.Contains(r.stderr, record) {
		t.Errorf("a job logs:\n%s", r.stderr)
	}
	// A warning looks as an error does.
	const odd = "BACKUP_RETENTION_DAY"
	b.env = append(b.env, odd+"=30")
	if shown := b.terminal(t, 100, 24, "list").ends(0); !strings.Contains(shown, "warning:") || !strings.Contains(shown, odd) || strings.Contains(shown, "level=") {
		t.Errorf("a warning at a terminal:\n%s", shown)
	}
	if r := b.run("list", "--log-format", "text"); r.code != 0 || !strings.Contains(r.stderr, "level=WARN") {
		t.Errorf("a warning for a file:\n%s", r.stderr)
	}
}
