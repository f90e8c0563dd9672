package schedule

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
)

// Written is an entry as a configuration file has it.
type Written struct {
	// Values are those of each key but args, of which databases alone can have several.
	Values map[string][]string
	// Args are those of the job.
	Args []Arg
}

// Keys returns the keys of an entry in a configuration file.
func Keys() []string {
	return []string{"name", "job", "at", "timezone", "databases", "args", "spread", "max_duration", "missed", "within"}
}

// Entry reads an entry, and checks it. Errors are of KindUsage and quote no value but
// times; key is the one that is wrong, or empty where it is the whole.
func (w Written) Entry() (e Entry, key string, err error) {
	one := func(key string) string {
		values := w.Values[key]
		if len(values) == 0 {
			return ""
		}
		return values[0]
	}
	for _, key := range Keys() {
		if len(w.Values[key]) > 1 && key != "databases" {
			return e, key, usage("write one value", "%s of a schedule must be a single value", key)
		}
	}
	e = Entry{Name: one("name"), Job: Job(one("job")), Databases: w.Values["databases"], Args: w.Args, Missed: Missed(one("missed"))}
	if _, known := e.Job.rules(); !known && e.Job != "" {
		return e, "job", usage("the jobs are "+strings.Join(Jobs(), ", "), "a schedule has a job that this version does not know")
	}
	zone := time.UTC
	if _, given := w.Values["timezone"]; given {
		name := one("timezone")
		// An empty name would be UTC, and Local another zone on each machine.
		if zone, err = time.LoadLocation(name); err != nil || name == "" || strings.EqualFold(name, localName) {
			return e, "timezone", usage("write UTC, or a name such as Europe/Berlin", "timezone of a schedule is not a known time zone")
		}
	}
	for key, place := range map[string]*time.Duration{"spread": &e.Spread, "max_duration": &e.MaxDuration, "within": &e.Within} {
		if text := one(key); text != "" {
			if *place, err = parseLength(text); err != nil {
				return e, key, usage("write 90s, 10m, 2h or 1d", "%s of a schedule is not a length of time", key)
			}
		}
	}
	if text := one("at"); text != "" {
		if e.Times, err = ParseTimes(text, zone); err != nil {
			return e, "at", pgmedic.Errorf(pgmedic.KindUsage, pgmedic.HintOf(err), "at of a schedule: %w", err)
		}
	}
	return e, "", e.Check()
}

// parseLength reads a length of time, with days.
func parseLength(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 8)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// Example returns the plan of a preset as lines of a configuration file, each an item of a
// list. A drill needs a secret key, which a host that takes backups should not have: it is
// a comment.
func Example(preset string) string {
	var b strings.Builder
	for _, e := range Preset(preset, time.UTC) {
		mark := ""
		if e.Job == JobDrill {
			mark = "#"
		}
		var pairs []string
		for _, a := range e.Args {
			pairs = append(pairs, a.Name+": "+yamlString(strings.Join(a.Values, ",")))
		}
		args := ""
		if len(pairs) > 0 {
			args = ", args: {" + strings.Join(pairs, ", ") + "}"
		}
		fmt.Fprintf(&b, "%s- {name: %s, job: %s, at: %s, timezone: %s%s}\n", mark, e.Name, e.Job, yamlString(e.Times.String()), e.Times.Zone(), args)
	}
	return b.String()
}

// yamlString writes a text as YAML reads it whatever it is: as JSON does.
func yamlString(text string) string {
	// It fails for no string.
	quoted, _ := json.Marshal(text)
	return string(quoted)
}
