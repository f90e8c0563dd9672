// Package notify tells people and programs how jobs ended: by e-mail, chat, push
// services, incident services and webhooks, and by pings of a dead man's switch. What
// can't be delivered is kept and sent by the next run. No message has a row, SQL or a
// secret: an Event has no field for one.
package notify

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// EventType and EventVersion are those of the JSON of an Event. A reader of one version
// reads every event of it: fields are added, and keep their meaning.
const (
	EventType    = "pgmedic.event"
	EventVersion = 1
)

// State says what an event is about.
type State string

// The states of events.
const (
	// StateFiring means that something is wrong.
	StateFiring State = "firing"
	// StateResolved means that it no longer is.
	StateResolved State = "resolved"
	// StateInfo is news of something that was not wrong before.
	StateInfo State = "info"
)

// Event is something that happened to a database, as it is sent. Its JSON is what
// webhooks receive.
type Event struct {
	// Text is the whole message in one line.
	Text    string `json:"text"`
	Type    string `json:"type"`
	Version int    `json:"version"`
	// ID is unique, sorts by time, and is the same each time that the event is sent.
	ID string `json:"id"`
	// Name is what happened: backup.failed.
	Name     string           `json:"event"`
	State    State            `json:"state"`
	Severity pgmedic.Severity `json:"severity"`
	// At is when it happened, Since when it first did without an end, both in UTC.
	At    time.Time `json:"at"`
	Since time.Time `json:"since"`
	// Fingerprint is the same for all events about one thing that is wrong.
	Fingerprint string `json:"fingerprint"`
	// Count is how often it happened since then, this time included.
	Count  int    `json:"count"`
	Target Target `json:"target"`
	// Object is what of the database it is about, or empty.
	Object string `json:"object,omitempty"`
	// Section is that of a report that it is from, or empty.
	Section string `json:"section,omitempty"`
	// Summary is one sentence, without the target.
	Summary  string             `json:"summary"`
	Evidence []pgmedic.Evidence `json:"evidence,omitempty"`
	// Exit is the exit code of the job.
	Exit int `json:"exit"`
	// Hint says what to do, and Command is the command to run next.
	Hint    string `json:"hint,omitempty"`
	Command string `json:"command,omitempty"`
	// Recovery says what the database can still be recovered to; nil where the event is
	// not about a database's backups.
	*Recovery
	// URL leads to more, if a link is configured.
	URL string `json:"url,omitempty"`
	// Host is where the job ran.
	Host string `json:"host"`
	// Once is true of what is not reported again while it lasts and is not worse; and of
	// news that is nothing but the end of what was wrong.
	Once bool `json:"-"`
	// Due is true of what its sender has decided to report now, because it remembers itself
	// what it reported: it is sent whatever was sent before. Since and Count are the
	// sender's, too.
	Due bool `json:"-"`
	// Further is true of what goes only to channels that have not heard of it.
	Further bool `json:"-"`
	// digestAfter is when the digest before this one was sent.
	digestAfter time.Time
	// Test is true of a message that somebody asked for to try a channel.
	Test bool `json:"test,omitempty"`
}

// Target is what an event is about.
type Target struct {
	Server   string            `json:"server,omitempty"`
	Database string            `json:"database,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// Environment is the label env, or environment.
func (t Target) Environment() string {
	if env := t.Labels["env"]; env != "" {
		return env
	}
	return t.Labels["environment"]
}

// Recovery is what a database can be recovered to.
type Recovery struct {
	// Recoverable is true where there is a good backup.
	Recoverable bool `json:"recoverable"`
	// To is the moment whose data the newest proven backup has, or the newest good one
	// where none is proven, in UTC.
	To time.Time `json:"recoverable_to,omitzero"`
	// Backup is its id, and Proof how much is known of it. Claimed is true where this
	// host can't tell who says so.
	Backup  string        `json:"recoverable_backup,omitempty"`
	Proof   pgmedic.Proof `json:"recoverable_proof,omitempty"`
	Claimed bool          `json:"recoverable_claimed,omitempty"`
	// Seconds is how long its last drill took to recover; zero without one.
	Seconds float64 `json:"recovery_seconds,omitempty"`
	// NewerTo is the same of a newer good backup that is not proven, if there is one.
	NewerTo time.Time `json:"recoverable_unproven_to,omitzero"`
	// Unknown says why nothing is known, or is empty.
	Unknown string `json:"recovery_unknown,omitempty"`
}

// sentence says it to people.
func (r *Recovery) recoverySentence() string {
	switch {
	case r == nil:
		return ""
	case r.Unknown != "":
		return "What can still be recovered is not known: " + r.Unknown + "."
	case !r.Recoverable:
		return "There is no good backup to recover from."
	}
	known := string(r.Proof)
	if r.Claimed {
		known += " by receipts that this host can't check"
	}
	if r.Seconds > 0 {
		known += ", " + words.Seconds(r.Seconds)
	}
	text := "You can still recover to " + clock(r.To) + " (" + known + ")"
	if !r.NewerTo.IsZero() {
		text += ", and perhaps to " + clock(r.NewerTo) + " (not proven)"
	}
	return text + "."
}

// clock writes a time for people.
func clock(t time.Time) string { return t.UTC().Format("2 Jan 15:04") + " UTC" }

// Fingerprint is the same for all events about one thing: the parts say which.
func Fingerprint(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_ = binary.Write(h, binary.BigEndian, uint64(len(p)))
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// NewID returns an id that is unique and sorts by time: the milliseconds, and chance.
func NewID(now time.Time) string {
	var b [15]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // it never fails
	return "evt_" + base32.HexEncoding.EncodeToString(b[:])
}

// complete fills in what follows from the rest, and cleans every text: names come from
// servers and stores, and a message must not be steered by them.
func (e Event) complete(now time.Time) Event {
	e.Type, e.Version = EventType, EventVersion
	if e.ID == "" {
		e.ID = NewID(now)
	}
	if e.At.IsZero() {
		e.At = now
	}
	if e.Since.IsZero() {
		e.Since = e.At
	}
	e.At, e.Since = e.At.UTC().Truncate(time.Second), e.Since.UTC().Truncate(time.Second)
	e.Count = max(e.Count, 1)
	const longest = 1000 // of a text, in runes
	for _, text := range []*string{&e.Object, &e.Summary, &e.Hint, &e.Command, &e.Host, &e.Target.Server, &e.Target.Database} {
		*text = limit(words.OneLine(*text), longest)
	}
	e.Target.Labels = maps.Clone(e.Target.Labels)
	for key, value := range e.Target.Labels {
		e.Target.Labels[key] = limit(words.OneLine(value), longest)
	}
	e.Evidence = slices.Clone(e.Evidence)
	for i, v := range e.Evidence {
		e.Evidence[i] = pgmedic.Evidence{Name: words.OneLine(v.Name), Value: limit(words.OneLine(v.Value), longest)}
	}
	if e.Recovery != nil {
		r := *e.Recovery
		r.To, r.NewerTo = r.To.UTC().Truncate(time.Second), r.NewerTo.UTC().Truncate(time.Second)
		r.Backup, r.Proof, r.Unknown = words.OneLine(r.Backup), pgmedic.Proof(words.OneLine(string(r.Proof))), limit(words.OneLine(r.Unknown), longest)
		e.Recovery = &r
	}
	e.Text = e.line()
	return e
}

// line is the whole message in one.
func (e Event) line() string {
	text := e.headline() + ": " + e.Summary
	if e.Object != "" && !strings.Contains(e.Summary, e.Object) {
		text += " (" + e.Object + ")"
	}
	return text
}

// anonymous takes out what names anything: what is left is what happened, when, how
// often, and on which host.
func (e Event) anonymous() Event {
	e.Target = Target{Labels: map[string]string{}}
	e.Object, e.Hint, e.Command = "", "", ""
	digest := e.Name == DigestName
	e.Evidence = slices.DeleteFunc(slices.Clone(e.Evidence), func(v pgmedic.Evidence) bool { return !digest || v.Name != DigestAudit })
	if !digest { // which counts, and names nothing
		e.Summary = strings.ReplaceAll(e.Name, ".", " ")
	}
	if e.Recovery != nil {
		r := *e.Recovery
		r.Backup = ""
		if r.Unknown != "" {
			r.Unknown = "the backups could not be read"
		}
		e.Recovery = &r
	}
	e.Text = e.line()
	return e
}

// word is what an event begins with.
func (e Event) word() string {
	switch {
	case e.State == StateResolved:
		return "RESOLVED"
	case e.State == StateInfo && e.Severity.Rank() < pgmedic.SeverityWarn.Rank():
		return "OK"
	case e.Severity == pgmedic.SeverityCritical:
		return "CRITICAL"
	case e.Severity == pgmedic.SeverityWarn:
		return "WARNING"
	}
	return "INFO"
}

// headline is state, severity, database and environment.
func (e Event) headline() string {
	text := e.word()
	if e.Test {
		text = "TEST " + text
	}
	if e.Target.Database != "" {
		text += " " + e.Target.Database
	} else if e.Target.Server != "" {
		text += " " + e.Target.Server
	}
	if env := e.Target.Environment(); env != "" {
		text += " (" + env + ")"
	}
	return text
}

// limit cuts a text that is too long, in runes.
func limit(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// Sample returns an event as those that are sent, to try channels and templates with.
func Sample(name string, now time.Time) (Event, error) {
	e := Event{
		State: StateFiring, Severity: pgmedic.SeverityCritical, Test: true, At: now,
		Target: Target{Server: "main", Database: "clinic", Labels: map[string]string{"env": "production"}},
		Recovery: &Recovery{
			Recoverable: true, To: now.Add(-24 * time.Hour), Backup: now.Add(-24*time.Hour).UTC().Format("20060102T150405Z") + "-7f3a9c",
			Proof: pgmedic.ProofProven, Seconds: 41,
		},
		Host: "backup-1", Exit: 1,
	}
	switch name {
	case "backup-failed":
		e.Name, e.Summary, e.Exit = "backup.failed", "the backup failed: connect to db.example:5432: connection refused", 12
		e.Hint, e.Command = "check that the server is running", "pgmedic check clinic"
	case "drill-failed":
		e.Name, e.Summary, e.Exit = "drill.failed", "the drill of the newest backup failed: amcheck: 2 of 213 indexes are damaged", 11
		e.Object, e.Evidence = "public.claims_pkey", []pgmedic.Evidence{{Name: "damaged indexes", Value: "2"}}
		e.Hint, e.Command = "older backups may be whole", "pgmedic drill --sample 30"
	case "finding-critical":
		e.Name, e.Summary, e.Exit, e.Recovery = "finding.firing", "the data disk is 96 % full", 0, nil
		e.Evidence, e.Command = []pgmedic.Evidence{{Name: "used", Value: "96 %"}}, "pgmedic report clinic"
	case "resolved":
		e.Name, e.State, e.Summary, e.Exit = "backup.succeeded", StateResolved, "the backup succeeded", 0
		e.Since, e.Count = now.Add(-52*time.Minute), 2
	default:
		return Event{}, pgmedic.Errorf(pgmedic.KindUsage, "the events are "+strings.Join(Samples(), ", "), "there is no such event to test with")
	}
	e.Fingerprint = Fingerprint("test", e.Target.Server, e.Target.Database, e.Name)
	return e, nil
}

// Samples returns the names that Sample knows.
func Samples() []string {
	return []string{"backup-failed", "drill-failed", "finding-critical", "resolved"}
}

// String names the event for a log.
func (e Event) String() string { return fmt.Sprintf("%s %s", e.Name, e.ID) }
