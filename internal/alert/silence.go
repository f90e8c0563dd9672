package alert

import (
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
)

// longestSilence is how long a silence lasts at most: one that lasts for ever hides a
// condition that somebody forgot. Thirty days are our choice.
const longestSilence = 30 * 24 * time.Hour

// Silence keeps alerts from being reported for a time. They keep their state, and what is
// still so at its end is reported then.
type Silence struct {
	ID     string    `json:"id"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	From   time.Time `json:"from"`
	Until  time.Time `json:"until"`
	// Matchers must all match.
	Matchers []Matcher `json:"matchers"`
}

// Matcher matches alerts by one of their labels.
type Matcher struct {
	// Label is target, id, database, object or severity; Value is what it must be.
	Label string `json:"label"`
	Value string `json:"value"`
}

// Labels are what a Matcher can name.
func Labels() []string { return []string{"target", "id", "database", "object", "severity"} }

func (a Alert) label(name string) string {
	switch name {
	case "target":
		return a.Target
	case "id":
		return a.ID
	case "database":
		return a.Database
	case "object":
		return a.Object
	case "severity":
		return string(a.Severity)
	}
	return ""
}

// Check refuses a silence without an end, a reason or a matcher.
func (x Silence) Check() error {
	switch {
	case x.Reason == "" || x.By == "":
		return pgmedic.Errorf(pgmedic.KindUsage, "say why, and who says so", "a silence without a reason or an author")
	case !x.Until.After(x.From):
		return pgmedic.Errorf(pgmedic.KindUsage, "give an end that is later than the beginning", "a silence that ends before it begins")
	case x.Until.Sub(x.From) > longestSilence:
		return pgmedic.Errorf(pgmedic.KindUsage, "give an end within 30 days", "a silence of more than 30 days")
	case len(x.Matchers) == 0:
		return pgmedic.Errorf(pgmedic.KindUsage, "name a target, a finding or an object", "a silence of everything")
	}
	for _, m := range x.Matchers {
		if !slices.Contains(Labels(), m.Label) {
			return pgmedic.Errorf(pgmedic.KindUsage, "use target, id, database, object or severity", "a silence by the unknown label %q", m.Label)
		}
	}
	return nil
}

// Covers reports whether the silence keeps an alert from being reported now.
func (x Silence) Covers(a Alert, now time.Time) bool {
	if now.Before(x.From) || !now.Before(x.Until) || len(x.Matchers) == 0 {
		return false
	}
	return !slices.ContainsFunc(x.Matchers, func(m Matcher) bool { return a.label(m.Label) != m.Value })
}
