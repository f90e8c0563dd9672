package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/audit"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/words"
)

func TestAuditPaths(t *testing.T) {
	const home, state = "/home/ana", "/var/lib"
	for name, test := range map[string]struct {
		file, keyFile, state, home string
		root                       bool
		want, key                  string
	}{
		"configured":      {file: "/a/b.jsonl", state: state, home: home, want: "/a/b.jsonl", key: "/a/b.key"},
		"key":             {file: "/a/b.jsonl", keyFile: "/k", want: "/a/b.jsonl", key: "/k"},
		"state folder":    {state: state, home: home, root: true, want: "/var/lib/pgmedic/audit.jsonl", key: "/var/lib/pgmedic/audit.key"},
		"root":            {home: "/root", root: true, want: "/var/lib/pgmedic/audit.jsonl", key: "/var/lib/pgmedic/audit.key"},
		"user":            {home: home, want: "/home/ana/.local/state/pgmedic/audit.jsonl", key: "/home/ana/.local/state/pgmedic/audit.key"},
		"relative state":  {state: "x", home: home, want: "/home/ana/.local/state/pgmedic/audit.jsonl", key: "/home/ana/.local/state/pgmedic/audit.key"},
		"no home":         {},
		"a relative home": {home: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			variables := map[string]string{"XDG_STATE_HOME": test.state, "HOME": test.home}
			file, key, err := auditPaths(config.Audit{File: test.file, KeyFile: test.keyFile}, func(v string) string { return variables[v] }, test.root)
			if file != test.want || key != test.key || (err != nil) != (test.want == "") {
				t.Errorf("%q %q %v", file, key, err)
			}
		})
	}
}

// TestRecordedCommands: what is dangerous is recorded, and each exception is a command.
func TestRecordedCommands(t *testing.T) {
	actions, names := map[string]bool{}, map[string]bool{"version": true}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		_, name, _ := strings.Cut(cmd.CommandPath(), " ")
		names[name] = true
		if !cmd.HasSubCommands() && name != "" {
			actions[actionOf(cmd)] = true
		}
		for _, below := range cmd.Commands() {
			walk(below)
		}
	}
	root := rootCLI(helpEnv())
	root.InitDefaultHelpCmd()
	walk(root)
	for _, want := range []string{"backup", "copy", "verify", "drill", "restore", "fetch", "rollback", "prune", "maintain", "cleanup", "delete", "hold", "release", "keys.add", "keys.remove", "keys.rotate", "keys.sign", "schedule.install"} {
		if !actions[want] {
			t.Errorf("%s is not recorded", want)
		}
	}
	for _, name := range unrecorded() {
		if !names[name] {
			t.Errorf("%q is not a command", name)
		}
		if actions[strings.ReplaceAll(name, " ", ".")] {
			t.Errorf("%q is recorded", name)
		}
	}
}

// TestAuditShowWidth: at a terminal of 80 columns no line is wider, and times, ids and
// results are whole.
func TestAuditShowWidth(t *testing.T) {
	var out bytes.Buffer
	e := &env{stdout: &out, rawOut: &out, stdoutTTY: true, stdoutWidth: func() int { return 80 }, global: globalFlags{noColor: true}}
	exit := 11
	records := []shownRecord{
		{Record: audit.Record{At: time.Date(2026, 11, 28, 9, 41, 7, 0, time.UTC), Actor: audit.Actor{Name: "administrator", SudoUser: "anastasia"},
			Action: "schedule.uninstall", Object: "20261122T020000Z-11ab02", Params: map[string]string{"database": "clinic_of_the_north"}, Exit: &exit, Outcome: "integrity"}},
		{Record: audit.Record{At: time.Date(2026, 11, 28, 9, 41, 7, 0, time.UTC), Actor: audit.Actor{Name: "postgres"}, Action: "prune", Outcome: audit.OutcomeIntended}, Unfinished: true},
	}
	cmd := &auditShowCommand{job: job{env: e}}
	if err := cmd.print(records, 3, &audit.Report{}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"2026-11-28 09:41:07", "exit 11", "not finished", "3 records older"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	if got := records[0].objectWords(); got != "clinic_of_the_north 11ab02" {
		t.Error(words.Clean(got))
	}
}

// TestRefusedWithoutAuditLog: where the intent can't be recorded the caller gets an error,
// whatever keeps it from that. What is not dangerous is done: with exit code 15 where
// someone chose the log, and with one warning where that is the default.
func TestRefusedWithoutAuditLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		config.Audit
		environ []string
		usual   bool
	}{
		"no folder":     {Audit: config.Audit{File: filepath.Join(file, "audit.jsonl")}},
		"another file":  {Audit: config.Audit{File: file, KeyFile: file + ".key"}},
		"not the key's": {Audit: config.Audit{File: file + ".jsonl", KeyFile: file}},
		"key alone":     {Audit: config.Audit{KeyFile: file + ".key"}, environ: []string{"XDG_STATE_HOME=" + file}},
		"no home":       {usual: true},
		"usual place":   {environ: []string{"XDG_STATE_HOME=" + file}, usual: true},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "no home" && os.Geteuid() == 0 {
				testkit.Elsewhere(t, "root has a place for the log without a home")
			}
			test.Keep = "0"
			var warned bytes.Buffer
			e := &env{stdoutWidth: func() int { return 0 }, now: time.Now, environ: test.environ}
			e.trail = newTrail(job{env: e, cfg: &config.Config{Audit: test.Audit}, log: slog.New(slog.NewTextHandler(&warned, nil))}, "prune")
			err := e.trail.intend(t.Context(), act{object: "clinic"})
			if pgmedic.KindOf(err) != pgmedic.KindFailed || err == nil || !strings.HasPrefix(err.Error(), "nothing was done: the audit log can't be written") || pgmedic.HintOf(err) == "" {
				t.Fatalf("%v", err)
			}
			if test.usual && !strings.Contains(pgmedic.HintOf(err), "PGMEDIC_AUDIT_FILE") {
				t.Error(pgmedic.HintOf(err))
			}
			if end := e.trail.end(t.Context(), err); !errors.Is(end, err) || warned.Len() > 0 {
				t.Errorf("%v, %s", end, warned.String())
			}
			e.trail = newTrail(e.trail.job, "backup")
			e.trail.anchor(t.Context())
			end := e.trail.end(t.Context(), nil)
			if test.usual && (end != nil || strings.Count(warned.String(), "level=WARN") != 1) {
				t.Errorf("%v, %s", end, warned.String())
			}
			if !test.usual && (pgmedic.KindOf(end) != pgmedic.KindDegraded || end == nil) {
				t.Errorf("a command that is not in the log ends with %v", end)
			}
			// What check says.
			l, cmd := &checklist{}, &checkCommand{job: e.trail.job}
			cmd.checkAudit(t.Context(), l)
			if got := l.checks[0].Outcome; got == pgmedic.OutcomeOK || (got == pgmedic.OutcomeWarn) != test.usual || l.failed == test.usual || l.checks[0].Hint == "" {
				t.Errorf("%+v", l.checks)
			}
		})
	}
}

// TestCheckAuditKey: check does not say ok of a log whose key is of no use, also before the
// log has begun.
func TestCheckAuditKey(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"not a key": {"x\n", 0o600}, "readable by all": {"pgmedic-audit-key-1 " + strings.Repeat("0", 64) + "\n", 0o644},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			key := filepath.Join(dir, "key")
			if err := os.WriteFile(key, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(key, test.mode); err != nil {
				t.Fatal(err)
			}
			l := &checklist{}
			cmd := &checkCommand{job: job{env: &env{now: time.Now}, cfg: &config.Config{Audit: config.Audit{File: filepath.Join(dir, "audit.jsonl"), KeyFile: key, Keep: "0"}}}}
			cmd.checkAudit(t.Context(), l)
			if len(l.checks) != 1 || l.checks[0].Outcome != pgmedic.OutcomeFailed {
				t.Errorf("%+v", l.checks)
			}
			if err := os.Remove(key); err != nil {
				t.Fatal(err)
			}
			l = &checklist{}
			if cmd.checkAudit(t.Context(), l); l.checks[0].Outcome != pgmedic.OutcomeOK {
				t.Errorf("a key that is to be made: %+v", l.checks)
			}
		})
	}
}

// TestDistinctAuditFiles: log, key and copies are different files, by whatever links.
func TestDistinctAuditFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for link, to := range map[string]string{"link.jsonl": "audit.jsonl", "folder": ".", "chain": "link.jsonl"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		file, key string
		forward   []string
		refused   bool
	}{
		"different":        {"audit.jsonl", "audit.key", []string{"stderr", "syslog", "file:" + at("copy.jsonl")}, false},
		"log is key":       {"audit.jsonl", "audit.jsonl", nil, true},
		"key is a link":    {"audit.jsonl", "chain", nil, true},
		"key in a link":    {"audit.jsonl", "folder/audit.jsonl", nil, true},
		"copy is log":      {"audit.jsonl", "audit.key", []string{"file:" + at("folder/chain")}, true},
		"copy is key":      {"audit.jsonl", "audit.key", []string{"file:" + at("x/../audit.key")}, true},
		"log with a .key":  {"audit.key", "", nil, true},
		"nothing is there": {"none/audit.jsonl", "none/audit.key", []string{"file:" + at("none/copy")}, false},
	} {
		for _, exists := range []bool{false, true} {
			if exists {
				for _, file := range []string{"audit.jsonl", "audit.key"} {
					if err := os.WriteFile(at(file), nil, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			c := config.Audit{File: at(test.file), Forward: test.forward, Keep: "0"}
			if test.key != "" {
				c.KeyFile = at(test.key)
			}
			err := job{env: &env{now: time.Now}, cfg: &config.Config{Audit: c}}.checkAuditPaths()
			if (err != nil) != test.refused || err != nil && pgmedic.KindOf(err) != pgmedic.KindUsage {
				t.Errorf("%s, exists %t: %v", name, exists, err)
			}
			_, _ = os.Remove(at("audit.jsonl")), os.Remove(at("audit.key"))
		}
	}
}

// TestEveryDeletionRecorded: of a large deletion each id is in the intent, and the outcome
// has those that were deleted.
func TestEveryDeletionRecorded(t *testing.T) {
	dir := t.TempDir()
	e := &env{now: time.Now}
	e.trail = newTrail(job{env: e, cfg: &config.Config{Audit: config.Audit{File: filepath.Join(dir, "audit.jsonl"), Keep: "0"}}, log: slog.New(slog.DiscardHandler)}, "prune")
	p := &prunedBackups{Series: []retention.Series{{}}}
	want := map[string]int{}
	for i := range 1000 {
		d := retention.Decision{ID: fmt.Sprintf("20261122T020000Z-%06x", i), Verdict: retention.Delete, Done: i%3 > 0}
		p.Series[0].Decisions = append(p.Series[0].Decisions, d)
		if want[audit.OutcomeIntended+d.ID]++; d.Done {
			want[audit.OutcomeDone+d.ID]++
		}
	}
	if err := e.trail.intend(t.Context(), p.intended()); err != nil {
		t.Fatal(err)
	}
	e.trail.about(p.outcome())
	if err := e.trail.end(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	exits := 0
	r, err := e.trail.log.Verify(t.Context(), audit.VerifyOptions{Each: func(r audit.Record) error {
		if r.Exit != nil {
			exits++
		}
		for name, value := range r.Params {
			if list := audit.ListName(name); list == "backups" || list == "deleted" {
				for _, id := range strings.Fields(value) {
					want[r.Outcome+id]--
				}
			}
		}
		return nil
	}})
	if err != nil || !r.Intact() || len(r.Unfinished) > 0 || exits != 1 {
		t.Errorf("%v %+v, %d exits", err, r, exits)
	}
	for id, n := range want {
		if n != 0 {
			t.Errorf("%s: %d", id, n)
		}
	}
}

// TestRecordedKeyNames: what is not the name of a key may be a secret in the wrong place.
func TestRecordedKeyNames(t *testing.T) {
	for name, recorded := range map[string]bool{
		"recipient-1a2b3c4d": true, "passphrase": true, "passphrase-2": true, "": true,
		"correct horse": false, "passphrase-is-this": false, "hunter2": false,
	} {
		got := keyChange{remove: name}.params(1)["remove"]
		if (got == name) != recorded {
			t.Errorf("%q is recorded as %q", name, got)
		}
	}
}
