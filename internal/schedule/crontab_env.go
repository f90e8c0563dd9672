package schedule

import (
	"regexp"
	"slices"
	"strings"
)

// Environment is what lines of a crontab set for the jobs on all lines below them.
type Environment struct {
	// MailTo is the text behind MAILTO=, as it is written there. It means nothing where
	// MailSet is false: cron then mails to the account.
	MailTo  string
	MailSet bool
	// Disturbing is the name of a variable that changes when or how the jobs of a block
	// below run, or empty.
	Disturbing string
}

// MailsNobody reports whether cron throws the output of jobs away.
func (e Environment) MailsNobody() bool { return e.MailSet && unquoted(e.MailTo) == "" }

// assignment matches a line that sets a variable, as vixie-cron, cronie and busybox take
// it: quotes and spaces are allowed around the name and the value.
var assignment = regexp.MustCompile(`^[ \t]*["']?([A-Za-z_][A-Za-z0-9_]*)["']?[ \t]*=[ \t]*(.*?)[ \t\r\n]*$`)

// environmentOf returns what lines of a crontab set. The last line counts for each name.
func environmentOf(lines []string) (e Environment) {
	values := map[string]string{}
	for _, l := range lines {
		if m := assignment.FindStringSubmatch(l); m != nil {
			values[m[1]] = m[2]
		}
	}
	e.MailTo, e.MailSet = values["MAILTO"]
	for _, variable := range []struct {
		name     string
		harmless []string
	}{
		{"CRON_TZ", nil},                // cronie: the clock that times are read by
		{"TZ", nil},                     // the clock of the job, and of some crons
		{"RANDOM_DELAY", []string{"0"}}, // cronie: minutes by which jobs start late
		{"SHELL", []string{"/bin/sh"}},  // what reads the commands
	} {
		if value, set := values[variable.name]; set && !slices.Contains(variable.harmless, unquoted(value)) {
			e.Disturbing = variable.name
			break
		}
	}
	return e
}

func unquoted(value string) string {
	for _, quote := range []string{`"`, "'"} {
		if len(value) >= 2 && strings.HasPrefix(value, quote) && strings.HasSuffix(value, quote) {
			return value[1 : len(value)-1]
		}
	}
	return value
}

// Around returns what a crontab sets for the block of a configuration, which comes after
// all other lines. Where the crontab sets what would change the jobs, the error is of
// KindConflict.
func Around(crontab, source string) (Environment, error) {
	b, err := FindBlock(crontab, source, nil)
	if err != nil {
		return Environment{}, err
	}
	lines := strings.SplitAfter(crontab, "\n")
	if b.State != InstalledNot {
		lines = slices.Delete(lines, b.first, b.after)
	}
	e := environmentOf(lines)
	if e.Disturbing != "" {
		return e, conflict("take that line out with crontab -e, or install with --systemd",
			"a line of the crontab sets %s for all lines below it, which would change when or how these jobs run", e.Disturbing)
	}
	return e, nil
}
