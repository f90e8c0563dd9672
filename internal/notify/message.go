package notify

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// mostLines bounds a message about several events.
const mostLines = 20

// message is what people read: always in the same order, whatever shows it.
type message struct {
	// title is state and severity, database and environment.
	title string
	// lines are sentences: what happened, what can still be recovered, since when; of
	// several events, one for each.
	lines []string
	// do is what to do, or empty, and command the command to run next, or empty.
	do, command string
	// link leads to more, or is empty.
	link string
	// facts are names and values, for what shows them in a table.
	facts    []pgmedic.Evidence
	state    State
	severity pgmedic.Severity
}

// messageOf is the message about one event, or about several.
func messageOf(events []Event) message {
	if len(events) == 1 {
		return messageOfOne(events[0])
	}
	m := message{title: groupTitle(events), state: StateResolved, severity: pgmedic.SeverityInfo, link: events[0].URL}
	for i, e := range events {
		if e.State == StateFiring {
			m.state = StateFiring
		}
		if e.Severity.Rank() > m.severity.Rank() {
			m.severity = e.Severity
		}
		if i < mostLines {
			m.lines = append(m.lines, e.word()+" "+e.subject()+": "+e.happened())
		}
	}
	if more := len(events) - mostLines; more > 0 {
		m.lines = append(m.lines, fmt.Sprintf("And %d more.", more))
	}
	if m.state == StateFiring { // else nothing is left to do
		m.command = events[0].Command
	}
	return m
}

func messageOfOne(e Event) message {
	m := message{title: e.title(), do: e.Hint, command: e.Command, link: e.URL, facts: e.Evidence, state: e.State, severity: e.Severity}
	m.lines = append(m.lines, e.happened())
	if recovery := e.recoverySentence(); recovery != "" && e.State == StateFiring {
		m.lines = append(m.lines, recovery)
	}
	if e.State == StateFiring && e.Count > 1 {
		m.lines = append(m.lines, "Since "+clock(e.Since)+", "+words.Plural(e.Count, "time")+".")
	}
	if e.State != StateFiring { // nothing is left to do
		m.do, m.command = "", ""
	}
	return m
}

// happened is what happened, and to what of the database.
func (e Event) happened() string {
	text := sentence(e.Summary)
	if e.Object != "" && !strings.Contains(text, e.Object) {
		text = strings.TrimSuffix(text, ".") + " (" + e.Object + ")."
	}
	return text
}

// title is the first line for people.
func (e Event) title() string {
	text := e.word()
	if e.Test {
		text = "TEST " + text
	}
	if s := e.subject(); s != "" {
		text += "  " + s
	}
	if e.State == StateResolved && !e.Since.Equal(e.At) {
		until := e.At.Format("15:04") + " UTC"
		if e.At.Format(time.DateOnly) != e.Since.Format(time.DateOnly) {
			until = clock(e.At)
		}
		text += " (since " + e.Since.Format("2 Jan 15:04") + ", until " + until + ")"
	}
	return text
}

// subject is database and environment.
func (e Event) subject() string {
	var parts []string
	for _, part := range []string{e.Target.Database, e.Target.Environment()} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if e.Target.Database == "" && e.Target.Server != "" {
		parts = append([]string{e.Target.Server}, parts...)
	}
	if len(parts) == 0 {
		return e.Host
	}
	return strings.Join(parts, " · ")
}

// groupTitle counts what a message about several events has.
func groupTitle(events []Event) string {
	counts := map[string]int{}
	subjects := map[string]bool{}
	for _, e := range events {
		counts[e.word()]++
		subjects[e.subject()] = true
	}
	var parts []string
	for _, word := range []string{"CRITICAL", "WARNING", "INFO", "RESOLVED", "OK"} {
		if counts[word] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[word], word))
		}
	}
	text := strings.Join(parts, ", ")
	if len(subjects) == 1 {
		text += "  " + events[0].subject()
	}
	return text
}

// sentence makes a phrase a sentence.
func sentence(phrase string) string {
	if phrase == "" {
		return ""
	}
	r := []rune(phrase)
	text := strings.ToUpper(string(r[:1])) + string(r[1:])
	if !strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "…") {
		text += "."
	}
	return text
}

// plain is the message below its title as text.
func (m message) plain() string {
	var b strings.Builder
	for _, line := range m.lines {
		b.WriteString(line + "\n")
	}
	for _, f := range m.facts {
		b.WriteString(f.Name + ": " + f.Value + "\n")
	}
	if do := m.next(); do != "" {
		b.WriteString("Do: " + do + "\n")
	}
	if m.link != "" {
		b.WriteString(m.link + "\n")
	}
	return b.String()
}

// next is what to do, and the command.
func (m message) next() string {
	switch {
	case m.command == "":
		return m.do
	case m.do == "":
		return m.command
	}
	return strings.TrimSuffix(m.do, ".") + "; then " + m.command
}

// color is that of the state: red, amber or green.
func (m message) color() string {
	switch {
	case m.state == StateResolved, m.severity.Rank() < pgmedic.SeverityWarn.Rank():
		return "#2e7d32"
	case m.severity == pgmedic.SeverityCritical:
		return "#c62828"
	}
	return "#ef6c00"
}
