package schedule

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pgmedic/pgmedic"
)

// Job is a command that can run on a schedule.
type Job string

// The jobs. Restores and whatever else replaces data is not among them.
const (
	JobBackup   Job = "backup"
	JobCopy     Job = "copy"
	JobVerify   Job = "verify"
	JobDrill    Job = "drill"
	JobPrune    Job = "prune"
	JobReport   Job = "report"
	JobCheck    Job = "check"
	JobMaintain Job = "maintain"
	JobCleanup  Job = "cleanup"
)

// Jobs returns the names of all jobs.
func Jobs() []string {
	var names []string
	for _, j := range jobs() {
		names = append(names, string(j.job))
	}
	return names
}

// Missed says what becomes of a run whose time passed while the machine was off.
type Missed string

// The rules for missed runs.
const (
	// MissedOnce runs once for all runs that were missed.
	MissedOnce Missed = "once"
	// MissedSkip leaves them out.
	MissedSkip Missed = "skip"
)

// Entry is one job and the times at which it runs. Check it before it is used.
type Entry struct {
	// Name is unique in a plan: lower-case letters, digits and dashes, 40 at most.
	Name  string
	Job   Job
	Times *Times
	// Databases are those that the job works on. Empty: the configured one.
	Databases []string
	Args      []Arg
	// Spread delays each run by a time that is fixed for this host and entry and at most
	// that long, so that many hosts do not start at once. 0 means no delay.
	Spread time.Duration
	// MaxDuration ends a run that takes longer. 0 means no limit.
	MaxDuration time.Duration
	// Missed is a default of the job where it is empty: once for backup, copy, verify,
	// drill, prune and cleanup; skip for report, check and maintain.
	Missed Missed
	// Within is the age up to which a missed run is made up for. 0: 12 hours.
	Within time.Duration
}

// methodPhysical is the method of a backup of the whole server.
const methodPhysical = "physical"

// defaultWithin is the age up to which a missed run is made up for.
const defaultWithin = 12 * time.Hour

// Arg is an argument of a job: a name of Parameters and its values.
type Arg struct {
	Name   string
	Values []string
}

// argKind is what the value of an argument can be.
type argKind int

const (
	argText argKind = iota
	argList
	argSwitch
	argCount
	argPercent
	argDuration
	argAge // such as 7d or 12h
)

// parameter is an argument that a job takes.
type parameter struct {
	name, flag string
	kind       argKind
	// values are those that it can have, where those are few.
	values []string
}

// jobRules are what a job takes.
type jobRules struct {
	job        Job
	parameters []parameter
	// databases is how many it takes: -1 is any number.
	databases int
	missed    Missed
}

func jobs() []jobRules {
	store := parameter{name: "store", flag: "store"}
	return []jobRules{
		{JobBackup, []parameter{
			{name: "label", flag: "label", kind: argList}, {name: "method", flag: "method", values: []string{"parallel", "plain", methodPhysical}},
			{name: "incremental", flag: "incremental", kind: argSwitch}, {name: "max_chain", flag: "max-chain", kind: argCount},
			{name: "reader", flag: "reader", values: []string{"stream", "sql"}},
			{name: "all_databases", flag: "all-databases", kind: argSwitch}, store,
		}, -1, MissedOnce},
		{JobCopy, []parameter{{name: "to", flag: "to", kind: argList}, store}, 0, MissedOnce},
		{JobVerify, []parameter{{name: "sample", flag: "sample", kind: argPercent}, {name: "all", flag: "all", kind: argSwitch}, store}, 0, MissedOnce},
		{JobDrill, []parameter{
			{name: "sample", flag: "sample", kind: argCount}, {name: "on_server", flag: "on-server", kind: argSwitch},
			{name: "at", flag: "at", values: []string{"random", "latest"}}, {name: "within", flag: "within", kind: argAge}, store,
		}, 0, MissedOnce},
		{JobPrune, []parameter{
			{name: "only", flag: "only", values: []string{"backups", "databases"}}, {name: "all_servers", flag: "all-servers", kind: argSwitch},
			{name: "store", flag: "store", kind: argList},
		}, 1, MissedOnce},
		{JobReport, []parameter{
			{name: "format", flag: "format", values: []string{"text", "html", "json", "prometheus"}}, {name: "output", flag: "output"},
			{name: "fail_on", flag: "fail-on", values: []string{"warn", "critical"}}, {name: "all_databases", flag: "all-databases", kind: argSwitch},
			{name: "notify", flag: "notify", kind: argSwitch}, {name: "digest", flag: "digest", kind: argSwitch}, store,
		}, 1, MissedSkip},
		{JobCheck, []parameter{{name: "notify", flag: "notify", kind: argSwitch}, store}, 1, MissedSkip},
		// At the start of the machine, in the middle of the day, it is not expected.
		{JobMaintain, []parameter{
			{name: "only", flag: "only", kind: argList, values: []string{"analyze", "vacuum", "reindex", "amcheck"}}, {name: "window", flag: "window", kind: argDuration},
		}, -1, MissedSkip},
		{JobCleanup, nil, 0, MissedOnce},
	}
}

// rules returns what a job takes.
func (j Job) rules() (jobRules, bool) {
	all := jobs()
	i := slices.IndexFunc(all, func(r jobRules) bool { return r.job == j })
	if i < 0 {
		return jobRules{}, false
	}
	return all[i], true
}

// Parameters returns the names of the arguments that a job takes.
func (j Job) Parameters() []string {
	r, _ := j.rules()
	var names []string
	for _, p := range r.parameters {
		names = append(names, p.name)
	}
	return names
}

// namePattern leaves room for the prefix and the suffix that Kubernetes adds to 52
// characters.
var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// Check refuses an entry that can't be run, with a pgmedic.KindUsage error that quotes no
// value of an argument.
func (e Entry) Check() error {
	rules, known := e.Job.rules()
	switch {
	case !namePattern.MatchString(e.Name):
		return usage("write up to 40 lower-case letters, digits and dashes", "a schedule has no name, or one that cron, systemd and Kubernetes do not all take")
	case !known:
		return usage("the jobs are "+strings.Join(Jobs(), ", "), "schedule %s has no job of this version", e.Name)
	case e.Times == nil:
		return usage(atHint, "schedule %s has no at", e.Name)
	case rules.databases >= 0 && len(e.Databases) > rules.databases:
		if rules.databases == 0 {
			return usage("leave databases out", "schedule %s: %s takes no databases", e.Name, e.Job)
		}
		return usage("write one schedule for each", "schedule %s: %s takes one database at most", e.Name, e.Job)
	case slices.ContainsFunc(e.Databases, func(d string) bool { return !printable(d) }):
		return usage("write each as PostgreSQL has it", "schedule %s has a database without a name, or one with a line break", e.Name)
	case e.Missed != "" && e.Missed != MissedOnce && e.Missed != MissedSkip:
		return usage("write once or skip", "schedule %s: missed is neither once nor skip", e.Name)
	case e.Spread < 0 || e.Spread > 24*time.Hour || e.Spread%time.Second != 0:
		return usage("write whole seconds, at most 24h", "schedule %s: spread is out of range", e.Name)
	case e.MaxDuration < 0 || e.MaxDuration%time.Second != 0 || e.MaxDuration > maxEvery:
		return usage("write whole seconds, at most 31d", "schedule %s: max_duration is out of range", e.Name)
	case e.Within < 0 || e.Within%time.Second != 0 || e.Within > maxEvery || e.Within > 0 && e.Within < time.Minute:
		return usage("write whole seconds, from 1m to 31d", "schedule %s: within is out of range", e.Name)
	case known && e.Within > 0 && e.MissedRule() == MissedSkip:
		return usage("set missed: once, or leave within out", "schedule %s: within counts for missed runs, and they are skipped", e.Name)
	}
	for i, a := range e.Args {
		if slices.ContainsFunc(e.Args[:i], func(o Arg) bool { return o.Name == a.Name }) {
			return usage("keep one of the two", "schedule %s has the argument %s twice", e.Name, a.Name)
		}
		if err := e.checkArg(rules, a); err != nil {
			return err
		}
	}
	return e.checkTogether()
}

// checkTogether refuses arguments that don't go with one another, or with databases.
func (e Entry) checkTogether() error {
	physical := e.value("method") == methodPhysical
	switch {
	case e.Job == JobBackup && physical && (len(e.Databases) > 0 || e.on("all_databases")):
		return usage("leave databases and all_databases out", "schedule %s: a physical backup is one of the whole server", e.Name)
	case e.Job == JobBackup && len(e.Databases) > 0 && e.on("all_databases"):
		return usage("leave out one of them", "schedule %s has all_databases and names of databases", e.Name)
	case e.Job == JobBackup && !physical && (e.has("incremental") || e.has("reader")):
		return usage("set method: physical as well", "schedule %s: incremental and reader are for physical backups", e.Name)
	case e.has("max_chain") && !e.on("incremental"):
		return usage("set incremental: true as well", "schedule %s: max_chain is for incremental backups", e.Name)
	case e.has("at") && (e.has("sample") || e.has("on_server")):
		return usage("leave out one of them", "schedule %s: sample and on_server are for drills of one database, and at for those of a whole cluster", e.Name)
	case e.has("within") && e.value("at") != "random":
		return usage("set at: random as well", "schedule %s: the argument within is for drills of a random moment", e.Name)
	case e.Job == JobReport && e.has("output") && !strings.HasPrefix(e.value("output"), "/"):
		return usage("write a path from / on", "schedule %s: output is not an absolute path", e.Name)
	case e.Job == JobReport && e.on("digest") && !e.on("notify"):
		return usage("set notify: true as well", "schedule %s: digest is sent with notify", e.Name)
	}
	return nil
}

// checkArg refuses an argument that the job does not take.
func (e Entry) checkArg(rules jobRules, a Arg) error {
	i := slices.IndexFunc(rules.parameters, func(p parameter) bool { return p.name == a.Name })
	if i < 0 {
		hint := string(e.Job) + " takes " + strings.Join(e.Job.Parameters(), ", ")
		if len(e.Job.Parameters()) == 0 {
			hint = "leave args out: " + string(e.Job) + " takes none"
		}
		return usage(hint, "schedule %s: %s takes no argument of this name on a schedule", e.Name, e.Job)
	}
	p := rules.parameters[i]
	bad := func(hint string) error { return usage(hint, "schedule %s: argument %s can't be that", e.Name, a.Name) }
	if len(a.Values) == 0 || p.kind != argList && len(a.Values) != 1 || slices.ContainsFunc(a.Values, func(v string) bool { return !printable(v) }) {
		return bad("write one value of one line; " + "a list where it may be repeated")
	}
	value := a.Values[0]
	switch {
	case len(p.values) > 0 && slices.ContainsFunc(a.Values, func(v string) bool { return !slices.Contains(p.values, v) }):
		return bad("write " + strings.Join(p.values, ", "))
	case p.kind == argSwitch && value != "true" && value != "false":
		return bad("write true or false")
	case p.kind == argCount:
		if n, err := strconv.Atoi(value); err != nil || n < 1 {
			return bad("write a whole number, at least 1")
		}
	case p.kind == argDuration:
		if d, err := time.ParseDuration(value); err != nil || d <= 0 || d > maxEvery {
			return bad("write a time such as 2h, at most 744h")
		}
	case p.kind == argAge:
		if !agePattern.MatchString(value) {
			return bad("write a time such as 7d or 12h")
		}
	case p.kind == argPercent:
		n, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
		if err != nil || !strings.HasSuffix(value, "%") || !(n > 0 && n <= 100) {
			return bad("write a share such as 5%")
		}
	case p.name == "label":
		if slices.ContainsFunc(a.Values, func(v string) bool { return strings.Index(v, "=") < 1 }) {
			return bad("write key=value")
		}
	}
	return nil
}

// agePattern is an age in one unit.
var agePattern = regexp.MustCompile(`^[1-9][0-9]{0,4}[mhd]$`)

// printable reports whether a text is one line that is not empty.
func printable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar })
}

func (e Entry) value(name string) string {
	for _, a := range e.Args {
		if a.Name == name && len(a.Values) > 0 {
			return a.Values[0]
		}
	}
	return ""
}

func (e Entry) has(name string) bool { return e.value(name) != "" }
func (e Entry) on(name string) bool  { return e.value(name) == "true" }

// MissedRule returns what becomes of missed runs: the entry's rule, or its job's.
func (e Entry) MissedRule() Missed {
	if e.Missed != "" {
		return e.Missed
	}
	rules, _ := e.Job.rules()
	return rules.missed
}

// WithinAge returns the age up to which a missed run is made up for.
func (e Entry) WithinAge() time.Duration {
	if e.Within > 0 {
		return e.Within
	}
	return defaultWithin
}

// Command returns the arguments of pgmedic that run the job, after the program's own
// and those that name the configuration. Each comes from a checked field; a value can't
// be taken for an option. A report is saved into the configured folder, unless output
// says where it goes; prune and cleanup delete, and maintain runs its plan; copy takes all
// backups, and verify and drill the latest (or the moment of at), unless their arguments say otherwise.
func (e Entry) Command() []string { return e.command(true) }

// command is Command, and without save a report without an output is printed.
func (e Entry) command(save bool) []string {
	argv := []string{string(e.Job), "--quiet"}
	rules, _ := e.Job.rules()
	for _, p := range rules.parameters {
		for _, a := range e.Args {
			switch {
			case a.Name != p.name:
			case p.kind == argSwitch:
				argv = append(argv, "--"+p.flag+"="+a.Values[0])
			default:
				for _, v := range a.Values {
					argv = append(argv, "--"+p.flag+"="+v)
				}
			}
		}
	}
	var operands []string
	switch e.Job {
	case JobBackup:
		if e.MaxDuration > 0 {
			argv = append(argv, "--max-duration="+e.MaxDuration.String())
		}
		operands = e.Databases
	case JobCopy:
		argv = append(argv, "--all")
	case JobVerify:
		if !e.on("all") {
			operands = []string{"latest"}
		}
	case JobDrill:
		if !e.has("sample") && !e.has("at") {
			operands = []string{"latest"}
		}
	case JobPrune:
		argv = append(argv, "--yes")
		for _, d := range e.Databases {
			argv = append(argv, "--database="+d)
		}
	case JobReport:
		if save && !e.has("output") {
			argv = append(argv, "--save")
		}
		operands = e.Databases
	case JobCheck:
		operands = e.Databases
	case JobMaintain:
		argv = append(argv, "--yes")
		if e.MaxDuration > 0 && !e.has("window") {
			argv = append(argv, "--window="+e.MaxDuration.String())
		}
		operands = e.Databases
	case JobCleanup:
		argv = append(argv, "--yes")
	}
	if len(operands) > 0 {
		argv = append(append(argv, "--"), operands...)
	}
	return argv
}

// Folders returns the folders that the arguments name and that the job writes into.
func (e Entry) Folders() (dirs []string) {
	for _, a := range e.Args {
		for _, v := range a.Values {
			switch {
			case !strings.HasPrefix(v, "/"):
			case a.Name == "output":
				dirs = append(dirs, path.Dir(v))
			case a.Name == "store", a.Name == "to":
				dirs = append(dirs, v)
			}
		}
	}
	return dirs
}

// limit returns the time after which what starts the job has to end it: a backup ends
// itself, and so does maintenance, unless it has another limit of its own.
func (e Entry) limit() time.Duration {
	if e.Job == JobBackup || e.Job == JobMaintain && !e.has("window") {
		return 0
	}
	return e.MaxDuration
}

// CheckPlan checks the entries, and that no two have one name.
func CheckPlan(plan []Entry) error {
	seen := map[string]bool{}
	for _, e := range plan {
		if err := e.Check(); err != nil {
			return err
		}
		if seen[e.Name] {
			return usage("give each a name of its own", "two schedules are named %s", e.Name)
		}
		seen[e.Name] = true
	}
	return nil
}

func usage(hint, format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindUsage, hint, format, args...)
}
