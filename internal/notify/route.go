package notify

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// Route says to which channels events go. The first one that matches counts.
type Route struct {
	// Match has for each name the values of which one must fit: severity, event,
	// database, server, or a label. A value may have *, which stands for any text. A
	// route without any matches every event.
	Match map[string][]string
	// To are names of channels; with none the event is sent to no one.
	To []string
	// Escalate says who also hears of what does not end, the earliest step first.
	Escalate []Step
}

// matches reports whether an event goes this way.
func (r Route) matches(e Event) bool {
	for name, values := range r.Match {
		have := e.Target.Labels[name]
		switch name {
		case "severity":
			have = string(e.Severity)
		case "event":
			have = e.Name
		case "database":
			have = e.Target.Database
		case "server":
			have = e.Target.Server
		}
		if !slices.ContainsFunc(values, func(pattern string) bool { return fits(pattern, have) }) {
			return false
		}
	}
	return true
}

// fits reports whether a text fits a pattern, in which * alone is special.
func fits(pattern, text string) bool {
	escaped := strings.NewReplacer(`\`, `\\`, "?", `\?`, "[", `\[`).Replace(pattern)
	// A slash is a letter like any other here, and not to path.Match.
	ok, err := path.Match(strings.ReplaceAll(escaped, "/", "\x00"), strings.ReplaceAll(text, "/", "\x00"))
	return err == nil && ok
}

// checkRoutes refuses routes that name a channel that does not exist, that can't be
// reached, or that leave an event without an answer.
func checkRoutes(routes []Route, channels []string) error {
	for i, r := range routes {
		if err := cmp.Or(checkChannels(i+1, r.To, channels), checkEscalation(i+1, r.Escalate, channels)); err != nil {
			return err
		}
		if severity, ok := r.Match["severity"]; ok {
			for _, s := range severity {
				if pgmedic.Severity(s).Rank() == 0 && !strings.Contains(s, "*") {
					return pgmedic.Errorf(pgmedic.KindUsage, "use critical, warn or info", "route %d matches a severity that does not exist", i+1)
				}
			}
		}
		if last := i == len(routes)-1; last != (len(r.Match) == 0) {
			if last {
				return pgmedic.Errorf(pgmedic.KindUsage, "add a last route that has only to:, which all other events take", "the last route has a match")
			}
			return pgmedic.Errorf(pgmedic.KindUsage, "write it last", "route %d has no match, so no route after it is ever taken", i+1)
		}
	}
	return nil
}

func checkChannels(route int, to, channels []string) error {
	for _, name := range to {
		if !slices.Contains(channels, name) {
			return pgmedic.Errorf(pgmedic.KindUsage, "the channels are "+strings.Join(channels, ", "), "route %d leads to channel %s, which does not exist", route, name)
		}
	}
	return nil
}

// channelsFor are the channels that an event goes to, in their order. Without routes it
// goes to all.
func channelsFor(e Event, routes []Route, channels []Channel) (to []Channel) {
	wanted := names(channels)
	if i := slices.IndexFunc(routes, func(r Route) bool { return r.matches(e) }); i >= 0 {
		wanted = slices.Clone(routes[i].To)
		for _, step := range routes[i].reached(e) {
			wanted = append(wanted, step.To...)
		}
	}
	for _, c := range channels {
		if slices.Contains(wanted, c.Name) {
			to = append(to, c)
		}
	}
	return to
}

func names(channels []Channel) (all []string) {
	for _, c := range channels {
		all = append(all, c.Name)
	}
	return all
}
