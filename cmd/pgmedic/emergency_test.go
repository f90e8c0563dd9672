package main

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/docs"
	"github.com/pgmedic/pgmedic/internal/emergency"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// emergencyFacts are places of which more and less is known, with names that shells and
// libpq take for something else.
func emergencyFacts() []emergency.Facts {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	var all []emergency.Facts
	for i, name := range []string{"", "clinic", "it's odd", "-x", "a=b", "$(touch bad)", "zeile\nzwei", `quo"te\`, strings.Repeat("ü", 31)} {
		for _, wal := range []bool{false, true} {
			f := emergency.Facts{Now: now, Database: name, Table: []string{"", "public.claims", `"it's".t`, "a*"}[i%4]}
			if i%3 > 0 {
				f.When = now.Add(-time.Hour)
				f.Global, f.Connection, f.Store = []string{"--config=/etc/my config.yaml"}, []string{"--host=/run/x", "--port=5433", "--user=o'neil"}, []string{"--store=s3://b/p"}
				f.Named = []string{"--server=o'ther"}
			}
			if name != "" {
				f.Backups = []emergency.Backup{{ID: "20261129T090000Z-aaaaaa", Database: name, At: now.Add(-3 * time.Hour), Proof: pgmedic.ProofTaken, NotInPlace: []string{"", "was taken with method plain"}[i%2]}}
				f.Stores = []emergency.Store{{Name: "s3://b/p", Count: 1}, {Name: "off site", Count: 1}}
				f.Server = emergency.Server{
					Reached: true, Major: 15, Kept: 1, ArchiverFails: true, Standby: wal,
					Slots:    []emergency.Slot{{Name: "mine", RetainedBytes: 1 << 30}, {Name: "theirs", Type: "logical", Database: name}},
					Blockers: []emergency.Blocker{{PID: 7, User: name, State: "active", Waiting: 1}, {Prepared: name, Database: name, Waiting: 2}},
					Ages:     []emergency.Age{{Database: name, Transactions: 1 << 30}},
					Holders:  []emergency.Holder{{Kind: "prepared transaction", Name: name}, {Kind: "replication slot", Name: "mine"}, {Kind: "standby", Name: name}, {Kind: "session", Name: "process 7"}},
				}
				f.OwnSlot = "mine"
			}
			if wal {
				f.WAL = &emergency.Window{From: now.Add(-48 * time.Hour), Until: now, Timeline: 2}
			}
			all = append(all, f)
		}
	}
	return all
}

// TestEmergencyCommands runs every command of every plan in a shell in which programs only say
// what they were given: what pgmedic gets is a command that exists, with flags that it has and
// arguments that it takes.
func TestEmergencyCommands(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		testkit.Missing(t, "bash")
	}
	var script strings.Builder
	script.WriteString(`PATH=/nowhere
pgmedic() { printf 'pgmedic'; printf '\x1f%s' "$@"; printf '\x1e'; }
for program in psql pg_dump xargs df rm mktemp age-keygen diff grep; do eval "$program() { :; }"; done
psql() { local argument; for argument; do :; done; }
`)
	var argvs [][]string
	steps := 0
	for _, f := range emergencyFacts() {
		for _, c := range emergency.Cases() {
			for _, s := range emergency.NewPlan(c, f).Steps {
				if s.Command == "" {
					continue
				}
				steps++
				if len(s.Argv) > 0 {
					argvs = append(argvs, s.Argv)
				}
				// What pg_dump writes goes to files, of which there are none here.
				script.WriteString(strings.ReplaceAll(s.Command, "$dir", "/dev") + "\n")
			}
		}
	}
	if steps < 1000 {
		t.Fatalf("only %d commands", steps)
	}
	text := strings.NewReplacer("/dev/parts", "/dev/null", "/dev/table.sql", "/dev/null").Replace(script.String())
	cmd := exec.CommandContext(t.Context(), bash)
	cmd.Dir, cmd.Env, cmd.Stdin = t.TempDir(), []string{}, strings.NewReader(text)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil || problems.Len() > 0 {
		t.Fatalf("bash: %v\n%s", err, problems.String())
	}
	typed := strings.Split(strings.TrimSuffix(string(out), "\x1e"), "\x1e")
	root := rootCLI(helpEnv())
	own := map[string]bool{}
	for _, line := range typed {
		if own[line] {
			continue
		}
		own[line] = true
		argv := strings.Split(line, "\x1f")[1:]
		cmd, rest, err := root.Find(argv)
		if err != nil || cmd == root {
			t.Fatalf("%q is no command: %v", argv, err)
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Fatalf("%q: %v", argv, err)
		}
		if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
			t.Fatalf("%q: %v", argv, err)
		}
		if cmd.Name() == "restore" {
			if f := cmd.Flags(); f.Changed("to-time") {
				if _, err := parseMoment(f.Lookup("to-time").Value.String()); err != nil {
					t.Fatalf("%q: %v", argv, err)
				}
			}
		}
		root = rootCLI(helpEnv()) // flags keep what they were given
	}
	for _, argv := range argvs {
		if !own["pgmedic\x1f"+strings.Join(argv, "\x1f")] {
			t.Fatalf("%q is not what its command says", argv)
		}
	}
}

// TestEmergencySections: every case has its section in the runbook, and every section has a name.
func TestEmergencySections(t *testing.T) {
	sections := runbookSections(docs.Emergency)
	if len(sections) < 20 {
		t.Fatalf("%d sections", len(sections))
	}
	for _, name := range runbookNames(sections) {
		if s, ok := sectionOf(sections, name); !ok || len(s.Text) < 200 {
			t.Errorf("%s has no section", name)
		}
	}
	if _, ok := sectionOf(sections, "nothing-such"); ok {
		t.Error("there is a section of any name")
	}
}

// TestRunbookAsText: nothing of Markdown is left but what is in commands.
func TestRunbookAsText(t *testing.T) {
	var out bytes.Buffer
	e := helpEnv()
	e.stdout, e.rawOut, e.stderr = &out, &out, io.Discard
	if err := (&runbookCommand{env: e}).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, left := range []string{"**", "](", "```", "<!--", "|--", "\n| ", "\n## ", "\n### "} {
		if i := strings.Index(text, left); i >= 0 {
			t.Errorf("%q is left: %q", left, text[max(0, i-60):min(len(text), i+60)])
		}
	}
	for _, line := range []string{"pgmedic restore latest --into clinic --globals --host new.internal --user postgres\n", "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"} {
		if !strings.Contains(text, line) {
			t.Errorf("it lacks %q", line)
		}
	}
}

// TestRepeatedFlags: the commands of a plan are given what this run was given, without a password.
func TestRepeatedFlags(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--config c.yaml --host h --port 5433 --store s --json", "[--config=c.yaml] [--host=h --port=5433] [--store=s] []"},
		{"--url postgres://u@h/d", "[] [--url=postgres://u@h/d] [] []"},
		{"--url postgres://u:pw-of-u@h/d --server x", "[] [] [] [--server=x]"},
	} {
		cmd, rest, err := rootCLI(helpEnv()).Find(append([]string{"emergency"}, strings.Fields(tt.args)...))
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err != nil {
			t.Fatal(err)
		}
		r := repeatedOf(cmd)
		if got := fmt.Sprint(r.global, r.connection, r.store, r.server); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
		}
	}
}

// TestEmergencyUnusedFlags: a flag on which nothing depends is refused.
func TestEmergencyUnusedFlags(t *testing.T) {
	refused := map[string]bool{}
	for _, c := range emergency.Cases() {
		for _, flags := range []emergencyFlags{{when: "10:42"}, {table: "t"}} {
			err := (&emergencyCommand{flags: flags}).checkUsed(c)
			used := flags.when != "" && c.Moment || flags.table != "" && c.Table
			if used != (err == nil) || err != nil && pgmedic.KindOf(err) != pgmedic.KindUsage {
				t.Errorf("%s with %+v: %v", c.ID, flags, err)
			}
			refused[c.ID] = refused[c.ID] || err != nil
		}
	}
	if !refused["disk-full"] || refused["table-dropped"] {
		t.Errorf("refused are %v", refused)
	}
}

// TestCommandsCounted holds the numbers of commands in the runbook against its own steps and
// those of the guide.
func TestCommandsCounted(t *testing.T) {
	blocks := map[string]int{}
	for _, m := range regexp.MustCompile("(?ms)^<!-- try: ([a-z-]+) -->\n```sh\n(.*?)^```$").FindAllStringSubmatch(docs.Emergency, -1) {
		end := ""
		for line := range strings.Lines(m[2]) {
			switch line = strings.TrimSpace(line); {
			case end != "":
				if line == end {
					end = ""
				}
			case strings.Contains(line, "<<'SQL'"):
				end = "SQL"
				fallthrough
			default:
				blocks[m[1]]++
			}
		}
	}
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	facts := emergency.Facts{
		Now: now, When: now.Add(-time.Hour), Database: "clinic", Table: "public.claims",
		Backups: []emergency.Backup{{ID: "20261129T090000Z-aaaaaa", Database: "clinic", At: now.Add(-3 * time.Hour)}},
		Server:  emergency.Server{Reached: true, Major: 15, DiskBytes: 1 << 40, DiskFreeBytes: 1 << 20, Slots: []emergency.Slot{{Name: "old_standby", RetainedBytes: 1 << 30}}},
	}
	guide := func(id, without string) int {
		c, ok := emergency.Find(id)
		if !ok {
			t.Fatalf("there is no case %s", id)
		}
		n := 1 // emergency itself
		for _, s := range emergency.NewPlan(c, facts).Steps {
			if s.Command != "" && !s.CanRun && (without == "" || !strings.HasPrefix(s.Title, without)) {
				n++
			}
		}
		return n
	}
	for task, want := range map[string][2][]int{
		"a table was dropped": {
			{blocks["deleted-table-copy"] + blocks["deleted-table"] + blocks["deleted-table-rest"] + blocks["deleted-table-tidy"]},
			{blocks["deleted-table-look"] + blocks["deleted-table-in-place"] + blocks["deleted-table-in-place-tidy"], guide("table-dropped", "")},
		},
		"rows were deleted": {
			{blocks["deleted-rows"] + blocks["deleted-rows-put-back"] + blocks["deleted-rows-tidy"]},
			{blocks["deleted-rows-look"] + blocks["deleted-rows-in-place"] + blocks["deleted-rows-in-place-tidy"], guide("rows-deleted", "")},
		},
		"a slot fills the disk": {
			{blocks["full-disk-look"] + blocks["full-disk-slot"] + blocks["full-disk-temporary"] + 1 + blocks["full-disk-after"]},
			{guide("disk-full", "")},
		},
		// keys list, export, drill, age-keygen, keys add, copy; and keys list, age-keygen, two exports, backup, drill
		"the key is gone, and another is left":   {{6}, {guide("key-lost", "If there is none")}},
		"the key is gone, and there is no other": {{6}, {guide("key-lost", "If you"), blocks["lost-key-list"] + blocks["lost-key-gone"]}},
	} {
		m := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(task) + ` \| (\d+)\b.* \| (\d+)\b.*\|$`).FindStringSubmatch(docs.Emergency)
		if m == nil {
			t.Errorf("the page does not count %q", task)
			continue
		}
		for i, counts := range want {
			for _, n := range counts {
				if strconv.Itoa(n) != m[i+1] {
					t.Errorf("%s: %d commands, and the page says %s", task, n, m[i+1])
				}
			}
		}
	}
}
