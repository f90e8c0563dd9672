package config_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/schedule"
)

func TestSchedules(t *testing.T) {
	dir := t.TempDir()
	cfg := load(t, config.Options{Dir: dir, File: write(t, dir, "pgmedic.yaml", `
schedules:
  - {name: nightly, job: backup, at: "30 2 * * *", timezone: Europe/Berlin, databases: [clinic, billing], spread: 10m, max_duration: 2h, missed: once, within: 6h, args: {label: [every=day, a=b], store: s3://b}}
  - name: verify
    job: verify
    at: every 6h
    args:
      sample: 5%
      all: true
  - name: report
    job: report
    databases: clinic
    at: "@weekly"
`)})
	if len(cfg.Schedules) != 3 {
		t.Fatalf("%d schedules", len(cfg.Schedules))
	}
	n, v, r := cfg.Schedules[0], cfg.Schedules[1], cfg.Schedules[2]
	if n.Name != "nightly" || n.Job != schedule.JobBackup || n.Times.Zone().String() != "Europe/Berlin" || n.Spread != 10*time.Minute ||
		n.MaxDuration != 2*time.Hour || n.Missed != schedule.MissedOnce || n.WithinAge() != 6*time.Hour {
		t.Errorf("%+v", n)
	}
	if got := strings.Join(n.Command(), " "); got != "backup --quiet --label=every=day --label=a=b --store=s3://b --max-duration=2h0m0s -- clinic billing" {
		t.Errorf("nightly runs %s", got)
	}
	if got := strings.Join(v.Command(), " "); got != "verify --quiet --sample=5% --all=true" || v.Times.Zone() != time.UTC {
		t.Errorf("verify runs %s in %s", got, v.Times.Zone())
	}
	if !slices.Equal(r.Databases, []string{"clinic"}) {
		t.Errorf("report is of %v", r.Databases)
	}
	if got := value(t, cfg, "schedules[2]"); got.Origin.Line != 10 || got.Value != "report: report at @weekly UTC" {
		t.Errorf("%+v", got)
	}
	for _, text := range []string{"schedules:\n", "schedules: []\n"} {
		if cfg := load(t, config.Options{Dir: dir, File: write(t, dir, "none.yaml", text)}); len(cfg.Schedules) != 0 {
			t.Errorf("%q has schedules", text)
		}
	}
}

func TestSchedulesThatAreNone(t *testing.T) {
	const canary = "canary-of-a-secret"
	for _, tt := range []struct{ text, want string }{
		{`x: 1`, `schedules must be a list`},
		{`- nightly`, `an item of schedules must be a mapping`},
		{`- {job: backup, at: "0 2 * * *"}`, `has no name`},
		{`- {name: a, at: "0 2 * * *"}`, `has no job`},
		{`- {name: a, job: backup}`, `has no at`},
		{`- {name: a, job: backups, at: "0 2 * * *"}`, `a job that this version does not know`},
		{`- {name: a, job: restore, at: "0 2 * * *"}`, `a job that this version does not know`},
		{`- {name: a, job: vacuum, at: "0 2 * * *"}`, `a job that this version does not know`},
		{`- {name: a, job: backup, at: "0 0 30 2 *"}`, `"0 0 30 2 *" never comes`},
		{`- {name: a, job: backup, at: "0 2 * *"}`, `has 4 fields instead of 5`},
		{`- {name: a, job: backup, at: "0 25 * * *"}`, `at of a schedule: "0 25 * * *"`},
		{`- {name: a, job: backup, at: every 10s}`, `every 10s can't be kept`},
		{`- {name: a, job: backup, at: [x, y]}`, `at of a schedule must be a single value`},
		{`- {name: a, job: backup, at: [x]}`, `at of a schedule: "x" has 1 fields`},
		{`- {name: a, job: backup, at: "0 2 * * *", timezone: Europe/Atlantis}`, `not a known time zone`},
		{`- {name: a, job: backup, at: "0 2 * * *", timezone: Local}`, `not a known time zone`},
		{`- {name: a, job: backup, at: "0 2 * * *", timezone: ""}`, `timezone of a schedule must be one value`},
		{`- {name: a, job: backup, at: "0 2 * * *", spread: soon}`, `spread of a schedule is not a length of time`},
		{`- {name: a, job: backup, at: "0 2 * * *", missed: twice}`, `missed is neither once nor skip`},
		{`- {name: a, job: backup, at: "0 2 * * *", hours: 2}`, `unknown key in schedules`},
		{`- {name: a, job: drill, at: "0 2 * * *", databases: x}`, `drill takes no databases`},
		{`- {name: a, job: backup, at: "0 2 * * *", args: {url: ` + canary + `}}`, `backup takes no argument of this name`},
		{`- {name: a, job: backup, at: "0 2 * * *", args: {method: ` + canary + `}}`, `argument method can't be that`},
		{`- {name: a, job: backup, at: "0 2 * * *", args: {label: {x: y}}}`, `must be one value, or a list of them`},
		{`- {name: a, job: backup, at: "0 2 * * *", args: [x]}`, `args of a schedule must be a mapping`},
		{`- {name: "` + canary + ` x", job: backup, at: "0 2 * * *"}`, `has no name, or one`},
		{`- {name: a, job: ` + canary + `, at: "0 2 * * *"}`, `a job that this version`},
		{"- {name: b, job: backup, at: '@daily'}\n  - {name: b, job: check, at: '@daily'}", `pgmedic.yaml:3: two schedules are named b`},
	} {
		dir := t.TempDir()
		write(t, dir, "pgmedic.yaml", "schedules:\n  "+tt.text+"\n")
		_, err := config.Load(config.Options{Dir: dir})
		if err == nil || pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "pgmedic.yaml:") {
			t.Errorf("%s\n%v\nwant %s", tt.text, err, tt.want)
			continue
		}
		if strings.Contains(err.Error()+pgmedic.HintOf(err), canary) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v (%s)", tt.text, err, pgmedic.HintOf(err))
		}
	}
}

// TestPresetsHaveSchedules reads the plan of each preset back, and what is a comment in it.
func TestPresetsHaveSchedules(t *testing.T) {
	for _, preset := range config.Presets() {
		example, err := config.Example(preset)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		all := strings.ReplaceAll(string(example), "\n  #- {name: ", "\n  - {name: ")
		full := load(t, config.Options{Dir: dir, File: write(t, dir, "all.yaml", all)})
		cfg := load(t, config.Options{Dir: dir, File: write(t, dir, "pgmedic.yaml", string(example))})
		text := func(plan []schedule.Entry) (lines []string) {
			for _, e := range plan {
				lines = append(lines, e.Name+" "+e.Times.String()+" "+strings.Join(e.Command(), " "))
			}
			return lines
		}
		want := schedule.Preset(preset, time.UTC)
		if !slices.Equal(text(full.Schedules), text(want)) {
			t.Errorf("%s has\n%s", preset, strings.Join(text(full.Schedules), "\n"))
		}
		want = slices.DeleteFunc(want, func(e schedule.Entry) bool { return e.Job == schedule.JobDrill })
		if !slices.Equal(text(cfg.Schedules), text(want)) {
			t.Errorf("%s has, as it is,\n%s", preset, strings.Join(text(cfg.Schedules), "\n"))
		}
	}
}
