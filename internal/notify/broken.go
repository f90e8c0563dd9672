package notify

import (
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sending"
)

// ChannelEvents begins the names of events about channels, which are of no server.
const ChannelEvents = "channel."

// brokenName is the event about a channel that can't be sent by.
const brokenName = ChannelEvents + "broken"

// brokenAfter is how long a channel may fail, with what can be over the next time, before
// the others hear of it. This threshold is our choice.
const brokenAfter = 15 * time.Minute

// aboutChannels are events for the other channels, about those that refuse messages or
// have failed for too long, and about those of the broken ones that work again.
func (s *Sender) aboutChannels(results []Result, broken []string) (events []Event) {
	for _, c := range s.o.Channels {
		e := Event{Name: brokenName, Object: c.Name, Fingerprint: Fingerprint("channel", s.o.Host, c.Name)}
		sent := false
		for _, r := range results {
			if r.Channel != c.Name {
				continue
			}
			sent = sent || r.Outcome == OutcomeSent
			if r.Outcome == OutcomeRefused || r.Outcome == OutcomeLost || r.Outcome == OutcomeKept && s.o.Now().Sub(r.At) > brokenAfter {
				e.State, e.Severity, e.Hint, e.Command = StateFiring, pgmedic.SeverityWarn, sending.HintOf(r.Err), "pgmedic notify test "+c.Name
				e.Summary = "notifications are not delivered by channel " + c.Name + ": " + r.Err.Error()
			}
		}
		if e.State == "" && sent && slices.Contains(broken, c.Name) {
			e.Name, e.State, e.Severity, e.Summary = "channel.mended", StateInfo, pgmedic.SeverityInfo, "notifications are delivered by channel "+c.Name+" again"
		}
		if e.State != "" {
			events = append(events, e)
		}
	}
	return events
}
