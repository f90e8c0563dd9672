package schedule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// UnitOptions say how units of systemd are written.
type UnitOptions struct {
	// User is true for the units of a user's own manager, which have no sandbox: it takes
	// privileges that such a manager does not have.
	User bool
	// RunAs is the account that jobs of the system's manager run as. Empty: root.
	RunAs string
	// Writable are the folders that jobs write into; all others are read-only for them.
	Writable []string
	// StateHome is true where jobs keep the audit log or the history of reports in
	// /var/lib/pgmedic.
	StateHome bool
	// Stream is true where a service streams WAL all the time.
	Stream bool
	// SharedTmp is true where the server's socket is in a folder for temporary files.
	SharedTmp bool
	// Credentials are the names of the secrets that systemd hands to each service, from
	// /etc/credstore or /run/credstore. They may be in any order, and repeat.
	Credentials []string
	// Now is the moment from which on changes of the clock are looked for.
	Now time.Time
}

// File is a file to write: its name without a folder, and its text.
type File struct{ Name, Text string }

// unitMark begins the first line of each unit.
const unitMark = "# pgmedic schedule "

// UnitPrefix begins the names of all units.
const UnitPrefix = "pgmedic-"

// Units writes a plan as a service and a timer for each entry, and a service for the stream
// of WAL. Entries whose times can't
// be said are refused with a KindUsage error. The notes are what systemd does otherwise
// than the plan says.
func Units(plan []Entry, h Host, o UnitOptions) (files []File, notes []Note, err error) {
	if err := errors.Join(h.check(), CheckPlan(plan)); err != nil {
		return nil, nil, err
	}
	if strings.ContainsFunc(o.RunAs, func(r rune) bool { return r <= ' ' || r == '%' || r == 0x7f }) {
		return nil, nil, usage("write the name of an account", "the account for jobs has a space or a line break in it")
	}
	if strings.ContainsAny(h.Program, `"'\`) {
		return nil, nil, usage("move it", "the path of the program has a quote or a backslash, which systemd does not take")
	}
	for _, dir := range o.Writable {
		if !printable(dir) || !strings.HasPrefix(dir, "/") {
			return nil, nil, usage("choose another folder", "a folder that jobs write into has a line break in its path, or is not absolute")
		}
	}
	if slices.ContainsFunc(o.Credentials, notCredential) {
		return nil, nil, usage("write credential: and the name of a file in /etc/credstore", "a reference to a credential has a name that systemd does not take")
	}
	if o.Stream {
		if err := checkStream(plan); err != nil {
			return nil, nil, err
		}
	}
	for _, e := range plan {
		sets, err := e.Times.sets()
		if err != nil {
			return nil, nil, fmt.Errorf("schedule %s: %w", e.Name, err)
		}
		name := UnitPrefix + e.Name
		files = append(files,
			File{name + ".service", unit(h, e, service(e, h, o))},
			File{name + ".timer", unit(h, e, timer(e, sets))})
		for _, c := range e.Times.Changes(o.Now, o.Now.Add(lookAhead)) {
			day := c.At.In(e.Times.Zone()).Format("2006-01-02")
			switch {
			case !c.Twice && c.Runs == 1:
				notes = append(notes, Note{e.Name, fmt.Sprintf("systemd leaves out %s on %s, when the clock is set forward; set timezone: UTC to keep that run", c.Read, day)})
			case c.Twice && c.Runs == 2:
				notes = append(notes, Note{e.Name, fmt.Sprintf("systemd runs %s once on %s, when the clock is set back; set timezone: UTC to keep both", c.Read, day)})
			}
		}
		if e.Within > 0 && e.MissedRule() == MissedOnce {
			notes = append(notes, Note{e.Name, "systemd makes up for a missed run however old it is; it has nothing for within"})
		}
	}
	if o.Stream {
		files = append(files, File{StreamUnit, streamService(h, o)})
	}
	return files, notes, nil
}

// unit puts the line that marks a unit before it.
func unit(h Host, e Entry, body string) string {
	return unitMark + h.Source() + " plan:" + planHash([]Entry{e}) + " body:" + shortHash(body) + "\n" + body
}

// systemdQuote quotes a word for ExecStart and the like.
func systemdQuote(word string) string {
	word = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(word)
	if strings.ContainsAny(word, ` '"\;#`) || word == "" {
		return `"` + word + `"`
	}
	return word
}

// systemdPath escapes a path where systemd puts no variables in.
func systemdPath(path string) string { return strings.ReplaceAll(systemdQuote(path), "$$", "$") }

func service(e Entry, h Host, o UnitOptions) string {
	argv := h.argv(e)
	for i := range argv {
		argv[i] = systemdQuote(argv[i])
	}
	argv[0] = systemdPath(h.Program)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("[Unit]\nDescription=pgmedic %s (%s)", e.Job, e.Name)
	if !o.User {
		line("Wants=network-online.target\nAfter=network-online.target")
	}
	line("\n[Service]\nType=oneshot\nExecStart=%s", strings.Join(argv, " "))
	if limit := e.limit(); limit > 0 {
		line("TimeoutStartSec=%d", limit/time.Second)
	} else {
		line("TimeoutStartSec=infinity")
	}
	line("TimeoutStopSec=60")
	line("Nice=10\nUMask=0077\nNoNewPrivileges=%s", yesNo(!needsPrivileges(e, o)))
	credentials(line, o)
	sandbox(line, o)
	return b.String()
}

// notCredential reports whether systemd takes no such name for a credential: it is that of a
// file, without a colon.
func notCredential(name string) bool {
	return name == "" || name == "." || name == ".." || len(name) > 255 || !printable(name) || strings.ContainsAny(name, `/\: `)
}

// credentials writes which credentials a service gets. A line without a path has systemd look
// in its stores; a service without one of them starts, and says what lacks.
func credentials(line func(format string, args ...any), o UnitOptions) {
	for _, name := range slices.Compact(slices.Sorted(slices.Values(o.Credentials))) {
		line("LoadCredential=%s", strings.ReplaceAll(name, "%", "%%"))
	}
}

// sandbox writes as which account a service runs and what it may do, where it is the
// system's.
func sandbox(line func(format string, args ...any), o UnitOptions) {
	if o.User {
		return
	}
	if o.RunAs != "" {
		line("User=%s", o.RunAs)
	}
	if o.StateHome {
		line("StateDirectory=pgmedic\nStateDirectoryMode=0700\nEnvironment=XDG_STATE_HOME=/var/lib")
	}
	line("ProtectSystem=strict\nProtectHome=read-only\nPrivateTmp=%s\nPrivateDevices=yes", yesNo(!o.SharedTmp))
	line("ProtectClock=yes\nProtectHostname=yes\nProtectKernelLogs=yes\nProtectKernelModules=yes\nProtectKernelTunables=yes")
	line("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\nRestrictRealtime=yes\nRestrictSUIDSGID=yes\nLockPersonality=yes\nSystemCallArchitectures=native")
	if len(o.Writable) > 0 {
		dirs := slices.Sorted(slices.Values(o.Writable))
		for i := range dirs {
			dirs[i] = systemdPath(dirs[i])
		}
		line("ReadWritePaths=%s", strings.Join(slices.Compact(dirs), " "))
	}
}

// needsPrivileges reports whether a job changes its user: PostgreSQL refuses to run as
// root, so that a drill of root's starts its server as another one.
func needsPrivileges(e Entry, o UnitOptions) bool {
	return e.Job == JobDrill && !o.User && (o.RunAs == "" || o.RunAs == "root")
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func timer(e Entry, sets fieldSets) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[Unit]\nDescription=pgmedic %s (%s): %s %s\n\n[Timer]\n", e.Job, e.Name, strings.ReplaceAll(e.Times.String(), "%", "%%"), e.Times.Zone())
	for _, text := range sets.calendars() {
		fmt.Fprintf(&b, "OnCalendar=%s\n", text)
	}
	fmt.Fprintf(&b, "AccuracySec=1s\nPersistent=%s\n", yesNo(e.MissedRule() == MissedOnce))
	if e.Spread > 0 {
		fmt.Fprintf(&b, "RandomizedDelaySec=%d\nFixedRandomDelay=yes\n", e.Spread/time.Second)
	}
	b.WriteString("\n[Install]\nWantedBy=timers.target\n")
	return b.String()
}

// UnitOf reports of a file whether it is a unit of the configuration source, or of
// another one, and whether it is as it was written.
func UnitOf(text, source string) (ours, other, edited bool) {
	first, body, _ := strings.Cut(text, "\n")
	rest, ok := strings.CutPrefix(first, unitMark)
	if !ok {
		return false, false, false
	}
	_, hash, _ := strings.Cut(rest, " body:")
	if !strings.HasPrefix(rest, source+" plan:") {
		return false, true, false
	}
	return true, false, hash != shortHash(body)
}

// CompareUnits compares the units of a configuration, as they are installed, with its
// plan, and with whether it streams WAL. Files that are not of the configuration are left
// out of it.
func CompareUnits(installed []File, source string, plan []Entry, stream bool) Installed {
	want := map[string]string{}
	if stream {
		want[StreamUnit] = streamMark(source)
	}
	for _, e := range plan {
		mark := unitMark + source + " plan:" + planHash([]Entry{e}) + " "
		want[UnitPrefix+e.Name+".service"], want[UnitPrefix+e.Name+".timer"] = mark, mark
	}
	found, state := 0, InstalledSame
	for _, f := range installed {
		ours, _, edited := UnitOf(f.Text, source)
		if !ours {
			continue
		}
		found++
		mark, known := want[f.Name]
		switch {
		case edited:
			return InstalledEdited
		case !known || !strings.HasPrefix(f.Text, mark):
			state = InstalledOther
		}
	}
	switch {
	case found == 0:
		return InstalledNot
	case found != len(want):
		return InstalledOther
	}
	return state
}
