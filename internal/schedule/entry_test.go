package schedule_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schedule"
)

// entry is one that is right, with changes.
func entry(t *testing.T, job schedule.Job, change func(*schedule.Entry)) schedule.Entry {
	t.Helper()
	e := schedule.Entry{Name: "nightly", Job: job, Times: parse(t, "0 2 * * *", "UTC")}
	if change != nil {
		change(&e)
	}
	return e
}

func args(pairs ...string) (all []schedule.Arg) {
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, ":")
		all = append(all, schedule.Arg{Name: name, Values: strings.Split(value, "|")})
	}
	return all
}

func TestCommand(t *testing.T) {
	for _, tt := range []struct {
		job       schedule.Job
		databases []string
		args      []schedule.Arg
		want      string
	}{
		{schedule.JobBackup, nil, nil, "backup --quiet --max-duration=2h0m0s"},
		{schedule.JobBackup, []string{"clinic", "-x"}, args("store:s3://b", "label:every=day|a=-b"), "backup --quiet --label=every=day --label=a=-b --store=s3://b --max-duration=2h0m0s -- clinic -x"},
		{schedule.JobBackup, nil, args("all_databases:true", "method:plain"), "backup --quiet --method=plain --all-databases=true --max-duration=2h0m0s"},
		{schedule.JobBackup, nil, args("method:physical"), "backup --quiet --method=physical --max-duration=2h0m0s"},
		{schedule.JobBackup, nil, args("method:physical", "incremental:true", "max_chain:7", "reader:sql"), "backup --quiet --method=physical --incremental=true --max-chain=7 --reader=sql --max-duration=2h0m0s"},
		{schedule.JobCopy, nil, args("to:offsite|nas"), "copy --quiet --to=offsite --to=nas --all"},
		{schedule.JobVerify, nil, nil, "verify --quiet -- latest"},
		{schedule.JobVerify, nil, args("sample:5%", "all:true"), "verify --quiet --sample=5% --all=true"},
		{schedule.JobDrill, nil, nil, "drill --quiet -- latest"},
		{schedule.JobDrill, nil, args("sample:30"), "drill --quiet --sample=30"},
		{schedule.JobDrill, nil, args("at:random", "within:7d"), "drill --quiet --at=random --within=7d"},
		{schedule.JobDrill, nil, args("at:latest"), "drill --quiet --at=latest"},
		{schedule.JobPrune, []string{"-x"}, args("only:backups"), "prune --quiet --only=backups --yes --database=-x"},
		{schedule.JobReport, []string{"clinic"}, args("fail_on:warn"), "report --quiet --fail-on=warn --save -- clinic"},
		{schedule.JobReport, nil, args("output:/var/x.prom", "format:prometheus"), "report --quiet --format=prometheus --output=/var/x.prom"},
		{schedule.JobCheck, []string{"clinic"}, nil, "check --quiet -- clinic"},
		{schedule.JobMaintain, []string{"clinic", "-x"}, nil, "maintain --quiet --yes --window=2h0m0s -- clinic -x"},
		{schedule.JobMaintain, nil, args("window:90m", "only:analyze|vacuum"), "maintain --quiet --only=analyze --only=vacuum --window=90m --yes"},
		{schedule.JobCleanup, nil, nil, "cleanup --quiet --yes"},
	} {
		e := entry(t, tt.job, func(e *schedule.Entry) { e.Databases, e.Args, e.MaxDuration = tt.databases, tt.args, 2*time.Hour })
		if err := e.Check(); err != nil {
			t.Errorf("%s: %v", tt.want, err)
		}
		if got := strings.Join(e.Command(), " "); got != tt.want {
			t.Errorf("%s\nwant %s", got, tt.want)
		}
	}
}

func TestEntriesThatAreNone(t *testing.T) {
	type change = func(*schedule.Entry)
	for name, tt := range map[string]struct {
		job    schedule.Job
		change change
	}{
		"no name":                 {schedule.JobBackup, func(e *schedule.Entry) { e.Name = "" }},
		"a path as name":          {schedule.JobBackup, func(e *schedule.Entry) { e.Name = "../x" }},
		"capitals":                {schedule.JobBackup, func(e *schedule.Entry) { e.Name = "Nightly" }},
		"a long name":             {schedule.JobBackup, func(e *schedule.Entry) { e.Name = strings.Repeat("x", 41) }},
		"a restore":               {"restore", nil},
		"no times":                {schedule.JobBackup, func(e *schedule.Entry) { e.Times = nil }},
		"databases of a drill":    {schedule.JobDrill, func(e *schedule.Entry) { e.Databases = []string{"x"} }},
		"two of a report":         {schedule.JobReport, func(e *schedule.Entry) { e.Databases = []string{"x", "y"} }},
		"a database of two lines": {schedule.JobBackup, func(e *schedule.Entry) { e.Databases = []string{"x\ny"} }},
		"an empty database":       {schedule.JobBackup, func(e *schedule.Entry) { e.Databases = []string{""} }},
		"an argument of another":  {schedule.JobBackup, func(e *schedule.Entry) { e.Args = args("sample:5%") }},
		"a flag that is not one":  {schedule.JobBackup, func(e *schedule.Entry) { e.Args = args("url:postgres://x") }},
		"a share of nothing":      {schedule.JobVerify, func(e *schedule.Entry) { e.Args = args("sample:0%") }},
		"a share that is none":    {schedule.JobVerify, func(e *schedule.Entry) { e.Args = args("sample:NaN%") }},
		"a count of shares":       {schedule.JobDrill, func(e *schedule.Entry) { e.Args = args("sample:5%") }},
		"a switch that is none":   {schedule.JobVerify, func(e *schedule.Entry) { e.Args = args("all:perhaps") }},
		"two values of one":       {schedule.JobBackup, func(e *schedule.Entry) { e.Args = args("store:a|b") }},
		"an argument twice":       {schedule.JobBackup, func(e *schedule.Entry) { e.Args = args("store:a", "store:b") }},
		"a label without value":   {schedule.JobBackup, func(e *schedule.Entry) { e.Args = args("label:x") }},
		"a value of two lines":    {schedule.JobBackup, func(e *schedule.Entry) { e.Args = args("label:x=y\n* * * * * id") }},
		"a part of the server":    {schedule.JobBackup, func(e *schedule.Entry) { e.Databases, e.Args = []string{"x"}, args("method:physical") }},
		"physical and all":        {schedule.JobBackup, func(e *schedule.Entry) { e.Args = args("method:physical", "all_databases:true") }},
		"all and some databases":  {schedule.JobBackup, func(e *schedule.Entry) { e.Databases, e.Args = []string{"x"}, args("all_databases:true") }},
		"a part of a dump":        {schedule.JobBackup, func(e *schedule.Entry) { e.Args = args("incremental:true") }},
		"a reader of a dump":      {schedule.JobBackup, func(e *schedule.Entry) { e.Args = args("method:plain", "reader:sql") }},
		"a chain of full ones":    {schedule.JobBackup, func(e *schedule.Entry) { e.Args = args("method:physical", "max_chain:7") }},
		"a moment of a database":  {schedule.JobDrill, func(e *schedule.Entry) { e.Args = args("at:random", "sample:3") }},
		"a fixed moment":          {schedule.JobDrill, func(e *schedule.Entry) { e.Args = args("at:2026-11-29 10:41:59+00") }},
		"within of the latest":    {schedule.JobDrill, func(e *schedule.Entry) { e.Args = args("at:latest", "within:7d") }},
		"within of no time":       {schedule.JobDrill, func(e *schedule.Entry) { e.Args = args("at:random", "within:0d") }},
		"a digest to no one":      {schedule.JobReport, func(e *schedule.Entry) { e.Args = args("digest:true") }},
		"a relative output":       {schedule.JobReport, func(e *schedule.Entry) { e.Args = args("output:x.html") }},
		"a kind that is none":     {schedule.JobMaintain, func(e *schedule.Entry) { e.Args = args("only:vacuum|full") }},
		"no time at all":          {schedule.JobMaintain, func(e *schedule.Entry) { e.Args = args("window:0s") }},
		"an argument of cleanup":  {schedule.JobCleanup, func(e *schedule.Entry) { e.Args = args("store:x") }},
		"databases of cleanup":    {schedule.JobCleanup, func(e *schedule.Entry) { e.Databases = []string{"x"} }},
		"missed twice":            {schedule.JobBackup, func(e *schedule.Entry) { e.Missed = "twice" }},
		"a spread of days":        {schedule.JobBackup, func(e *schedule.Entry) { e.Spread = 25 * time.Hour }},
		"part of a second":        {schedule.JobBackup, func(e *schedule.Entry) { e.MaxDuration = time.Millisecond }},
		"within of skipped runs":  {schedule.JobBackup, func(e *schedule.Entry) { e.Missed, e.Within = schedule.MissedSkip, time.Hour }},
		"within of a report":      {schedule.JobReport, func(e *schedule.Entry) { e.Within = time.Hour }},
		"less than nothing":       {schedule.JobBackup, func(e *schedule.Entry) { e.Within = -time.Hour }},
	} {
		t.Run(name, func(t *testing.T) {
			err := entry(t, tt.job, tt.change).Check()
			if err == nil || pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
				t.Errorf("got %v, hint %q", err, pgmedic.HintOf(err))
			}
		})
	}
	a := entry(t, schedule.JobBackup, nil)
	if err := schedule.CheckPlan([]schedule.Entry{a, a}); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("two of one name: %v", err)
	}
}

func TestPresets(t *testing.T) {
	plans := map[string][]schedule.Entry{"default": schedule.Default(zone(t, "Europe/Berlin"), false), "with channels": schedule.Default(time.UTC, true)}
	for _, name := range []string{"development", "staging", "production"} {
		plans[name] = schedule.Preset(name, time.UTC)
	}
	for name, plan := range plans {
		if err := schedule.CheckPlan(plan); err != nil || len(plan) == 0 {
			t.Errorf("%s: %d entries, %v", name, len(plan), err)
		}
	}
	for name, want := range map[string]bool{"default": false, "with channels": true} {
		i := slices.IndexFunc(plans[name], func(e schedule.Entry) bool { return e.Job == schedule.JobReport })
		if notifies := strings.Contains(strings.Join(plans[name][i].Command(), " "), "--notify"); notifies != want {
			t.Errorf("%s: the report notifies: %v", name, notifies)
		}
	}
	var jobs []schedule.Job // of which none changes the live database
	for _, e := range plans["default"] {
		jobs = append(jobs, e.Job)
	}
	if want := []schedule.Job{schedule.JobBackup, schedule.JobPrune, schedule.JobReport, schedule.JobCleanup}; !slices.Equal(jobs, want) {
		t.Errorf("the default plan has the jobs %v", jobs)
	}
	var backups []string
	for _, e := range plans["production"] {
		if e.Job == schedule.JobBackup {
			backups = append(backups, e.Name)
		}
	}
	if want := []string{"hourly", "nightly", "weekly", "monthly"}; !slices.Equal(backups, want) {
		t.Errorf("production has the backups %v", backups)
	}
	if schedule.Preset("none", time.UTC) != nil {
		t.Error("there is a plan of a preset that there is not")
	}
}
