package schedule_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schedule"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// analyze runs systemd-analyze, which needs no running systemd.
func analyze(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		testkit.Missing(t, "no systemd-analyze: apt-get install systemd, or scripts/setup.sh")
	}
	cmd := exec.Command(program, arguments...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=cat")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func oddPlan(t *testing.T) []schedule.Entry {
	t.Helper()
	plan := schedule.Preset("production", time.UTC)
	for name, text := range map[string]string{
		"odd": "*/15 8-18/2 1,15 JAN-MAR,12 MON-FRI", "sunday": "5 4 * * 7", "tenth": "1 2 */10 * *", "both": "0 3 */2 * 1", "often": "every 20m", "week": "every 7d",
	} {
		plan = append(plan, entry(t, schedule.JobVerify, func(e *schedule.Entry) {
			e.Name, e.Times, e.MaxDuration, e.Spread = name, parse(t, text, "UTC"), time.Hour, time.Hour
		}))
	}
	return plan
}

// TestSystemdAcceptsTheUnits has systemd's own checker read them, with what is hostile to
// it in every place.
func TestSystemdAcceptsTheUnits(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, `pg medic 100% $HOME ;`)
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := schedule.Host{Program: program, Config: filepath.Join(dir, `it's 100% ; "x".yaml`), Name: "db1", Zone: time.UTC}
	plan := append(oddPlan(t), entry(t, schedule.JobBackup, func(e *schedule.Entry) {
		e.Name, e.Databases, e.Args = "hostile", []string{`a"b\`, "%h", "$x", "; rm"}, args(`label:q=100% $HOME 'x'`)
	}))
	for name, o := range map[string]schedule.UnitOptions{
		"system": {Stream: true, RunAs: "daemon", Writable: []string{dir, `/srv/it's "100%" x`}, StateHome: true, Credentials: []string{"dbpw", `100%h'"$x`}},
		"root":   {SharedTmp: true},
		"user":   {User: true, Stream: true, Credentials: []string{"dbpw"}},
	} {
		t.Run(name, func(t *testing.T) {
			o.Now = noon()
			files, _, err := schedule.Units(plan, h, o)
			want := 2 * len(plan)
			if o.Stream {
				want++
			}
			if err != nil || len(files) != want {
				t.Fatalf("%d files, %v", len(files), err)
			}
			units := t.TempDir()
			verify := []string{"verify", "--man=no"}
			for _, f := range files {
				path := filepath.Join(units, f.Name)
				if err := os.WriteFile(path, []byte(f.Text), 0o644); err != nil {
					t.Fatal(err)
				}
				verify = append(verify, path)
			}
			if out, err := analyze(t, verify...); err != nil || strings.Contains(out, units) {
				t.Errorf("%v\n%s", err, out)
			}
			bad := filepath.Join(units, "pgmedic-hostile.service")
			if err := os.WriteFile(bad, []byte("[Service]\nType=oneshot\nExecStart=relative\nProtectSystem=perhaps\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := analyze(t, verify...); err == nil && !strings.Contains(out, units) {
				t.Errorf("a unit that is wrong is accepted:\n%s", out)
			}
		})
	}
}

// TestSystemdRunsTheSameTimes compares the next runs with those of systemd's own calendar.
func TestSystemdRunsTheSameTimes(t *testing.T) {
	plan := oddPlan(t)
	for name, text := range map[string]string{"berlin": "30 4 * * 1", "kolkata": "every 6h"} {
		plan = append(plan, entry(t, schedule.JobCheck, func(e *schedule.Entry) {
			e.Name, e.Times = name, parse(t, text, map[string]string{"berlin": "Europe/Berlin", "kolkata": "Asia/Kolkata"}[name])
		}))
	}
	files, _, err := schedule.Units(plan, host("/x.yaml", time.UTC), schedule.UnitOptions{Now: noon()})
	if err != nil {
		t.Fatal(err)
	}
	const runs = "30"
	moment := regexp.MustCompile(`(?m)^ *(?:Next elapse|Iter\. #\d+): \w{3} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC$`)
	for i, e := range plan {
		timer := files[2*i+1]
		if timer.Name != "pgmedic-"+e.Name+".timer" {
			t.Fatalf("%s is not the timer of %s", timer.Name, e.Name)
		}
		var got []time.Time
		for _, line := range regexp.MustCompile(`(?m)^OnCalendar=(.*)$`).FindAllStringSubmatch(timer.Text, -1) {
			out, err := analyze(t, "calendar", "--iterations="+runs, "--base-time=2026-11-29 12:00:00 UTC", line[1])
			if err != nil {
				t.Fatalf("%s: %v\n%s", line[1], err, out)
			}
			for _, m := range moment.FindAllStringSubmatch(out, -1) {
				at, err := time.Parse(time.DateTime, m[1])
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, at)
			}
		}
		slices.SortFunc(got, time.Time.Compare)
		got = slices.CompactFunc(got, time.Time.Equal)
		if len(got) < 30 {
			t.Fatalf("%s: systemd has %d runs", e.Name, len(got))
		}
		at := noon()
		for _, g := range got[:30] {
			if at = e.Times.Next(at); !at.Equal(g) {
				t.Errorf("%s (%s): %s, and systemd has %s", e.Name, e.Times, at.UTC(), g)
				break
			}
		}
	}
}

// TestSystemdSaysWhatItDoesOtherwise compares the notes with what systemd does.
func TestSystemdSaysWhatItDoesOtherwise(t *testing.T) {
	for _, tt := range []struct{ at, zone, want string }{
		{"30 2 * * *", "Europe/Berlin", "leaves out 02:30 on 2027-03-28"},
		{"0 * * * *", "Europe/Berlin", "runs 02:00 once on 2027-10-31"},
		{"30 4 * * *", "Europe/Berlin", ""},
		{"30 2 * * *", "UTC", ""},
		{"every 6h", "Europe/Berlin", ""},
	} {
		e := entry(t, schedule.JobBackup, func(e *schedule.Entry) { e.Times = parse(t, tt.at, tt.zone) })
		_, notes, err := schedule.Units([]schedule.Entry{e}, host("/x.yaml", time.UTC), schedule.UnitOptions{Now: noon()})
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(notes)
		if tt.want == "" && len(notes) > 0 || !strings.Contains(text, tt.want) {
			t.Errorf("%s %s: %q, want %q", tt.at, tt.zone, text, tt.want)
		}
	}
}

func TestTimersSayWhatIsMissed(t *testing.T) {
	for _, tt := range []struct {
		job    schedule.Job
		missed schedule.Missed
		want   string
	}{
		{schedule.JobBackup, "", "Persistent=yes"}, {schedule.JobReport, "", "Persistent=no"},
		{schedule.JobBackup, schedule.MissedSkip, "Persistent=no"}, {schedule.JobReport, schedule.MissedOnce, "Persistent=yes"},
	} {
		e := entry(t, tt.job, func(e *schedule.Entry) { e.Missed, e.Spread, e.MaxDuration = tt.missed, 10*time.Minute, time.Hour })
		files, _, err := schedule.Units([]schedule.Entry{e}, host("/x.yaml", time.UTC), schedule.UnitOptions{Now: noon()})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{tt.want, "RandomizedDelaySec=600", "FixedRandomDelay=yes", "OnCalendar=*-*-* 02:00:00 UTC"} {
			if !strings.Contains(files[1].Text, "\n"+want+"\n") {
				t.Errorf("%s %s lacks %s:\n%s", tt.job, tt.missed, want, files[1].Text)
			}
		}
		limit := "TimeoutStartSec=3600"
		if tt.job == schedule.JobBackup { // which ends itself
			limit = "TimeoutStartSec=infinity"
		}
		if !strings.Contains(files[0].Text, limit) {
			t.Errorf("%s lacks %s", tt.job, limit)
		}
	}
}

func TestCompareUnits(t *testing.T) {
	plan := []schedule.Entry{entry(t, schedule.JobBackup, nil), entry(t, schedule.JobPrune, func(e *schedule.Entry) { e.Name = "prune" })}
	files, _, err := schedule.Units(plan, host("/x.yaml", time.UTC), schedule.UnitOptions{Now: noon()})
	if err != nil {
		t.Fatal(err)
	}
	edited := slices.Clone(files)
	edited[1].Text = strings.Replace(edited[1].Text, "02:00", "03:00", 1)
	streaming, _, err := schedule.Units(plan, host("/x.yaml", time.UTC), schedule.UnitOptions{Now: noon(), Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	editedStream := slices.Clone(streaming)
	last := &editedStream[len(editedStream)-1]
	last.Text = strings.Replace(last.Text, "Restart=always", "Restart=no", 1)
	foreign := schedule.File{Name: "pgmedic-own.timer", Text: "[Timer]\nOnCalendar=daily\n"}
	for name, tt := range map[string]struct {
		files  []schedule.File
		plan   []schedule.Entry
		want   schedule.Installed
		stream bool
	}{
		"all":                     {append(slices.Clone(files), foreign), plan, schedule.InstalledSame, false},
		"none":                    {[]schedule.File{foreign}, plan, schedule.InstalledNot, false},
		"edited":                  {edited, plan, schedule.InstalledEdited, false},
		"one lacks":               {files[:3], plan, schedule.InstalledOther, false},
		"one is left":             {files, plan[:1], schedule.InstalledOther, false},
		"a new time":              {files, []schedule.Entry{plan[0], entry(t, schedule.JobPrune, func(e *schedule.Entry) { e.Name, e.Spread = "prune", time.Minute })}, schedule.InstalledOther, false},
		"all and the stream":      {streaming, plan, schedule.InstalledSame, true},
		"a stream that lacks":     {files, plan, schedule.InstalledOther, true},
		"a stream that is left":   {streaming, plan, schedule.InstalledOther, false},
		"a stream that is edited": {editedStream, plan, schedule.InstalledEdited, true},
		"a stream alone":          {streaming[len(streaming)-1:], nil, schedule.InstalledSame, true},
	} {
		if got := schedule.CompareUnits(tt.files, "/x.yaml", tt.plan, tt.stream); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
		if got := schedule.CompareUnits(tt.files, "/y.yaml", tt.plan, tt.stream); got != schedule.InstalledNot {
			t.Errorf("%s, of another configuration: %v", name, got)
		}
	}
}

func TestUnitsThatCannotBe(t *testing.T) {
	for name, e := range map[string]schedule.Entry{
		"an odd interval": entry(t, schedule.JobBackup, func(e *schedule.Entry) { e.Times = parse(t, "every 5h", "UTC") }),
		"no name":         entry(t, schedule.JobBackup, func(e *schedule.Entry) { e.Name = "" }),
	} {
		if _, _, err := schedule.Units([]schedule.Entry{e}, host("/x.yaml", time.UTC), schedule.UnitOptions{Now: noon()}); pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
	quoted := schedule.Host{Program: "/it's", Config: "/x.yaml", Zone: time.UTC}
	if _, _, err := schedule.Units([]schedule.Entry{entry(t, schedule.JobBackup, nil)}, quoted, schedule.UnitOptions{Now: noon()}); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("a quote in the path of the program: %v", err)
	}
	for _, o := range []schedule.UnitOptions{{RunAs: "a\nExecStart=x"}, {Writable: []string{"/x\ny"}}, {Writable: []string{"x"}},
		{Credentials: []string{"a\nExecStart=x"}}, {Credentials: []string{"a:/etc/shadow"}}, {Credentials: []string{"../x"}}, {Credentials: []string{""}}} {
		o.Now = noon()
		if _, _, err := schedule.Units([]schedule.Entry{entry(t, schedule.JobBackup, nil)}, host("/x.yaml", time.UTC), o); pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("%v: %v", o, err)
		}
	}
}

// TestStreamService: the stream is started again whenever it ends, with the machine too, and
// may do no more than other jobs.
func TestStreamService(t *testing.T) {
	h := schedule.Host{Program: "/usr/bin/pgmedic", Config: "/etc/pg medic.yaml", EnvFile: "/etc/.env", Zone: time.UTC}
	plan := []schedule.Entry{entry(t, schedule.JobBackup, nil)}
	for name, tt := range map[string]struct {
		o    schedule.UnitOptions
		has  []string
		lack []string
	}{
		"system": {
			schedule.UnitOptions{RunAs: "pgmedic", Writable: []string{"/srv/store"}, StateHome: true},
			[]string{"User=pgmedic", "ProtectSystem=strict", "ReadWritePaths=/srv/store", "StateDirectory=pgmedic", "WantedBy=multi-user.target", "After=network-online.target"},
			nil,
		},
		"user": {schedule.UnitOptions{User: true}, []string{"WantedBy=default.target"}, []string{"ProtectSystem", "network-online"}},
	} {
		tt.o.Now, tt.o.Stream = noon(), true
		files, _, err := schedule.Units(plan, h, tt.o)
		if err != nil {
			t.Fatal(err)
		}
		unit := files[len(files)-1]
		if unit.Name != schedule.StreamUnit {
			t.Fatalf("%s: the last unit is %s", name, unit.Name)
		}
		for _, want := range append(tt.has, "Restart=always", "StartLimitIntervalSec=0", "NoNewPrivileges=yes", `ExecStart=/usr/bin/pgmedic "--config=/etc/pg medic.yaml" --env-file=/etc/.env wal stream --quiet`) {
			if !strings.Contains(unit.Text, "\n"+want+"\n") {
				t.Errorf("%s lacks %s:\n%s", name, want, unit.Text)
			}
		}
		for _, not := range tt.lack {
			if strings.Contains(unit.Text, not) {
				t.Errorf("%s has %s:\n%s", name, not, unit.Text)
			}
		}
		if ours, _, edited := schedule.UnitOf(unit.Text, h.Source()); !ours || edited {
			t.Errorf("%s: the unit is not known as ours: %v, %v", name, ours, edited)
		}
	}
	taken := []schedule.Entry{entry(t, schedule.JobBackup, func(e *schedule.Entry) { e.Name = schedule.StreamName })}
	_, _, units := schedule.Units(taken, h, schedule.UnitOptions{Now: noon(), Stream: true})
	_, _, jobs := schedule.CronJobs(taken, schedule.KubernetesOptions{Image: "x", Secret: "x", Now: noon(), Stream: true})
	for _, err := range []error{units, jobs} {
		if pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("a schedule with the stream's name: %v", err)
		}
	}
	if _, _, err := schedule.Units(taken, h, schedule.UnitOptions{Now: noon()}); err != nil {
		t.Errorf("without a stream the name is free: %v", err)
	}
}

// TestCredentialsOfUnits: each service is handed all credentials, in an order that does not
// change the unit, and no timer is.
func TestCredentialsOfUnits(t *testing.T) {
	plan := []schedule.Entry{entry(t, schedule.JobBackup, nil)}
	for _, user := range []bool{false, true} {
		o := schedule.UnitOptions{User: user, Now: noon(), Stream: true, Credentials: []string{"phrase", "100%h", "dbpw", "phrase"}}
		files, _, err := schedule.Units(plan, host("/x.yaml", time.UTC), o)
		if err != nil || len(files) != 3 {
			t.Fatalf("%d files, %v", len(files), err)
		}
		for _, f := range files {
			want := "\nLoadCredential=100%%h\nLoadCredential=dbpw\nLoadCredential=phrase\n"
			if isService := strings.HasSuffix(f.Name, ".service"); strings.Contains(f.Text, want) != isService || strings.Count(f.Text, "LoadCredential") != map[bool]int{true: 3}[isService] {
				t.Errorf("user %v, %s:\n%s", user, f.Name, f.Text)
			}
		}
	}
}
