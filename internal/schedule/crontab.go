package schedule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
)

// CrontabOptions say how a crontab is written.
type CrontabOptions struct {
	// RunAs adds the column of users that /etc/cron.d has. Empty: a user's crontab.
	RunAs string
	// MailTo is who cron mails the output of failed jobs to. Empty: cron's default.
	MailTo string
	// MailToAfter is what MAILTO is set to at the end of the block, where MailTo is set, so
	// that lines below keep theirs: as the crontab has it, quotes included. Empty: the block
	// is the end of its file.
	MailToAfter string
	// Now is the moment from which on the clocks of two zones are compared.
	Now time.Time
}

const (
	blockBegin = "# BEGIN pgmedic schedule "
	blockEnd   = "# END pgmedic schedule "
)

// Crontab writes a plan as a block of lines for a crontab, between two lines that mark
// it. A job prints nothing where it succeeds, so that cron mails failures alone. An entry
// whose times can't be said in the machine's zone is refused with a KindUsage error. The
// notes are what cron can't do of what the plan says.
func Crontab(plan []Entry, h Host, o CrontabOptions) (block string, notes []Note, err error) {
	if err := errors.Join(h.check(), CheckPlan(plan)); err != nil {
		return "", nil, err
	}
	if strings.ContainsAny(o.MailToAfter, "\r\n") {
		return "", nil, usage("take it out with crontab -e", "the MAILTO of the crontab has a line break in it")
	}
	for _, name := range []string{o.RunAs, o.MailTo} {
		if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '"' || r == 0x7f }) {
			return "", nil, usage("write one name or address", "a user or an address for cron has a space or a line break in it")
		}
	}
	var b strings.Builder
	b.WriteString("# Made by pgmedic schedule; change the configuration and install it again instead.\n")
	fmt.Fprintf(&b, "# Times are those of %s. Output is mailed if a job fails.\n", zoneWords(h.Zone))
	if o.MailTo != "" {
		fmt.Fprintf(&b, "MAILTO=%s\n", o.MailTo)
	}
	for _, e := range plan {
		lines, err := cronTimes(e, h.Zone, o.Now)
		if err != nil {
			return "", nil, err
		}
		fmt.Fprintf(&b, "# %s: %s at %s %s\n", e.Name, e.Job, e.Times, e.Times.Zone())
		user := ""
		if o.RunAs != "" {
			user = o.RunAs + " "
		}
		command := shellCommand(e, h)
		// Many crons cut longer lines off in silence.
		if len(command) > maxCronCommand {
			return "", nil, usage("use shorter paths and fewer arguments, or systemd", "schedule %s: its command is too long for a crontab", e.Name)
		}
		for _, line := range lines {
			fmt.Fprintf(&b, "%s %s%s\n", line, user, command)
		}
		if e.MissedRule() == MissedOnce {
			notes = append(notes, Note{e.Name, "cron does not make up for runs that were missed while the machine was off; systemd does"})
		}
	}
	if o.MailTo != "" && o.MailToAfter != "" {
		fmt.Fprintf(&b, "MAILTO=%s\n", o.MailToAfter)
	}
	body := b.String()
	return blockBegin + h.Source() + " plan:" + planHash(plan) + "\n" + body + blockEnd + "body:" + shortHash(body) + "\n", notes, nil
}

// maxCronCommand is what vixie-cron takes, and Debian's.
const maxCronCommand = 990

func zoneWords(zone *time.Location) string {
	if zone.String() == localName {
		return "this machine's clock"
	}
	return zone.String()
}

// cronTimes returns the five fields of an entry by the machine's clock.
func cronTimes(e Entry, machine *time.Location, now time.Time) ([]string, error) {
	sets, err := e.Times.sets()
	if err != nil {
		return nil, fmt.Errorf("schedule %s: %w", e.Name, err)
	}
	hint := "set timezone: UTC for it where the machine's clock is UTC, or install with --systemd"
	if name := machine.String(); name != localName && name != "UTC" {
		hint = "set timezone: " + name + " for it, or install with --systemd"
	}
	shift, constant := difference(machine, sets.zone, now)
	if !constant {
		return nil, usage(hint, "schedule %s: cron goes by the machine's clock (%s), which is not always ahead of or behind %s by the same time",
			e.Name, zoneWords(machine), sets.zone)
	}
	lines, err := sets.lines(shift)
	if errors.Is(err, errDays) {
		return nil, usage("write weekdays as numbers from 0 to 6, or one of the two days as *", "schedule %s: %w", e.Name, err)
	}
	if errors.Is(err, errMoved) {
		return nil, usage(hint, "schedule %s: by the machine's clock (%s) it runs on another day of the month, which cron can't say", e.Name, zoneWords(machine))
	}
	return lines, err
}

// shellCommand is what cron gives to /bin/sh. The output is held back, and printed if the
// job failed; the exit code stays.
func shellCommand(e Entry, h Host) string {
	argv, ended := h.argv(e), ""
	if limit := e.limit(); limit > 0 {
		seconds := strconv.FormatInt(int64(limit/time.Second), 10)
		// The job has a minute to end by itself. GNU's timeout has 124 or 137 as the exit
		// code of what it ended, busybox's that of the job.
		argv = append([]string{"timeout", "-k", "60", seconds}, argv...)
		ended = "case $code in 124|137|143) echo 'ended after its max_duration of " + seconds + " s, or by a signal';; esac; "
	}
	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = quote(word)
	}
	command := "out=$(" + strings.Join(words, " ") + ` 2>&1) || { code=$?; ` + ended + `printf '%s\n' "$out"; exit $code; }`
	if delay := h.delay(e); delay > 0 {
		command = fmt.Sprintf("sleep %d; ", delay/time.Second) + command
	}
	return strings.ReplaceAll(command, "%", `\%`)
}

// quote quotes a word for a shell, if it has to be.
func quote(word string) string {
	if regexp.MustCompile(`^[A-Za-z0-9/._=:,@+-]+$`).MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// Block is what a crontab has for one configuration.
type Block struct {
	State Installed
	// Above is what the lines above the block set for its jobs.
	Above Environment
	// first and after are the lines of the block, markers included.
	first, after int
}

// FindBlock finds the block of a configuration in a crontab, and compares it with the
// plan. A block without its end, or two of them, is a KindConflict error.
func FindBlock(crontab, source string, plan []Entry) (Block, error) {
	lines := strings.SplitAfter(crontab, "\n")
	var found []Block
	for i := 0; i < len(lines); i++ {
		rest, ok := strings.CutPrefix(strings.TrimRight(lines[i], "\r\n"), blockBegin+source+" plan:")
		if !ok {
			continue
		}
		end := slices.IndexFunc(lines[i+1:], func(l string) bool { return strings.HasPrefix(l, blockEnd) || strings.HasPrefix(l, blockBegin) })
		if end < 0 || !strings.HasPrefix(lines[i+1+end], blockEnd) {
			return Block{}, conflict("take the block out with crontab -e, and install again", "the crontab has a block of pgmedic schedule without its end")
		}
		end += i + 1
		b := Block{State: InstalledSame, Above: environmentOf(lines[:i]), first: i, after: end + 1}
		switch {
		case strings.TrimRight(lines[end], "\r\n") != blockEnd+"body:"+shortHash(strings.Join(lines[i+1:end], "")):
			b.State = InstalledEdited
		case rest != planHash(plan):
			b.State = InstalledOther
		}
		found = append(found, b)
		i = end
	}
	switch len(found) {
	case 0:
		return Block{}, nil
	case 1:
		return found[0], nil
	}
	return Block{}, conflict("take one out with crontab -e", "the crontab has two blocks of pgmedic schedule for one configuration")
}

// Replace returns a crontab with the block of a configuration replaced by another, which
// comes last, or without it where the other is empty. All other lines stay as they are. A
// block that was changed by hand is a KindConflict error: it may have lines that are
// somebody else's.
func Replace(crontab, source, block string) (string, error) {
	old, err := FindBlock(crontab, source, nil)
	if err != nil {
		return "", err
	}
	if old.State == InstalledEdited {
		return "", conflict("move your lines out of the block with crontab -e, or delete the whole block there, and run it again",
			"the block of pgmedic schedule in the crontab was changed by hand, and the change would be lost")
	}
	if old.State != InstalledNot {
		lines := strings.SplitAfter(crontab, "\n")
		crontab = strings.Join(slices.Delete(lines, old.first, old.after), "")
	}
	if block != "" && crontab != "" && !strings.HasSuffix(crontab, "\n") {
		crontab += "\n"
	}
	return crontab + block, nil
}

func conflict(hint, format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindConflict, hint, format, args...)
}
