package schedule

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Host is what jobs run with: the program, its configuration, and the machine's clock.
type Host struct {
	// Program is the absolute path of pgmedic. Config and EnvFile are those of the files
	// that it reads; one of them may be empty.
	Program, Config, EnvFile string
	// Name is the host's: entries of different hosts are spread by it.
	Name string
	// Zone is the clock that cron goes by. Its name is Local where it has none.
	Zone *time.Location
}

// Source returns the file that the plan belongs to, of which the marks of what is
// installed tell.
func (h Host) Source() string {
	if h.Config != "" {
		return h.Config
	}
	return h.EnvFile
}

// argv returns the whole command of an entry.
func (h Host) argv(e Entry) []string { return h.command(e.Command()) }

// command returns the whole command of arguments of pgmedic.
func (h Host) command(arguments []string) []string {
	argv := []string{h.Program}
	if h.Config != "" {
		argv = append(argv, "--config="+h.Config)
	}
	if h.EnvFile != "" {
		argv = append(argv, "--env-file="+h.EnvFile)
	}
	return append(argv, arguments...)
}

// check refuses paths that no file of cron or systemd can hold.
func (h Host) check() error {
	for _, path := range []string{h.Program, h.Config, h.EnvFile} {
		if path != "" && (!printable(path) || !strings.HasPrefix(path, "/")) {
			return usage("move the program or its configuration to a path of one line", "a path is not absolute, or has a line break in it")
		}
	}
	if h.Source() == "" {
		return usage("`pgmedic init` writes a configuration", "there is neither a pgmedic.yaml nor a .env for jobs to read")
	}
	return nil
}

// delay returns the delay of an entry's runs on this host.
func (h Host) delay(e Entry) time.Duration {
	if e.Spread <= 0 {
		return 0
	}
	sum := sha256.Sum256([]byte(h.Name + "\x00" + h.Source() + "\x00" + e.Name))
	seconds := uint64(e.Spread / time.Second)
	return time.Duration(binary.BigEndian.Uint64(sum[:8])%(seconds+1)) * time.Second
}

// planHash tells one plan from another. It knows nothing of how the plan is run.
func planHash(plan []Entry) string {
	type row struct {
		Name, Job, At, Zone, Missed      string
		Databases                        []string
		Args                             []Arg
		Spread, MaxDuration, WithinDelay time.Duration
	}
	var rows []row
	for _, e := range plan {
		rows = append(rows, row{
			e.Name, string(e.Job), e.Times.String(), e.Times.Zone().String(), string(e.MissedRule()),
			e.Databases, e.Args, e.Spread, e.MaxDuration, e.WithinAge(),
		})
	}
	// It fails for channels and the like, of which a row has none.
	text, _ := json.Marshal(rows)
	return shortHash(string(text))
}

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// Installed says how what is installed for a configuration compares with its plan.
type Installed int

const (
	// InstalledNot is where nothing is.
	InstalledNot Installed = iota
	// InstalledSame is where it is the plan, as pgmedic wrote it.
	InstalledSame
	// InstalledOther is where the plan has changed since.
	InstalledOther
	// InstalledEdited is where it was changed by hand.
	InstalledEdited
)

// Note is something about an entry that a person should know before relying on it.
type Note struct {
	Entry string `json:"entry"`
	Text  string `json:"text"`
}

// Notes returns what is surprising about the times of entries within 400 days: times that
// a change of the clock skips or repeats, and two days of which either suffices.
func Notes(plan []Entry, now time.Time) (notes []Note) {
	for _, e := range plan {
		add := func(format string, args ...any) { notes = append(notes, Note{e.Name, fmt.Sprintf(format, args...)}) }
		if e.Times.EitherDay() {
			add("runs on the day of the month and on the weekday: either one suffices, as in cron")
		}
		for _, c := range e.Times.Changes(now, now.Add(lookAhead)) {
			day := c.At.In(e.Times.Zone()).Format("2006-01-02")
			switch {
			case c.Twice && c.Runs == 2:
				add("on %s the clock is set back: %s comes twice, and the job runs both times", day, c.Read)
			case c.Twice:
				add("on %s the clock is set back: %s comes twice, and the job runs once, the first time", day, c.Read)
			case c.Runs == 0:
				add("on %s the clock is set forward: %s does not come, and the job runs at its next time", day, c.Read)
			default:
				add("on %s the clock is set forward: %s does not come, and the job runs once, at %s", day, c.Read,
					c.At.In(e.Times.Zone()).Format("15:04"))
			}
		}
	}
	return notes
}
