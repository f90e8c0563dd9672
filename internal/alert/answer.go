package alert

import (
	"maps"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
)

// Answers are what people say to alerts: silences and acknowledgements. They are kept apart
// from a State, which belongs to the one that looks. The zero Answers are none.
type Answers struct {
	Format   int       `json:"format"`
	Silences []Silence `json:"silences"`
	// Acknowledged are by the fingerprints of alerts.
	Acknowledged map[string]Acknowledgement `json:"acknowledged"`
}

// AnswersFormat is the number of the form of Answers.
const AnswersFormat = 1

// Acknowledgement says that somebody knows that an alert fires.
type Acknowledgement struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
	// Severity is what the alert had: an acknowledgement says nothing of a worse one.
	Severity pgmedic.Severity `json:"severity"`
}

// Check refuses answers that this version does not understand.
func (x Answers) Check() error {
	if x.Format != AnswersFormat {
		return pgmedic.Errorf(pgmedic.KindUsage, "use the version of pgmedic that wrote it",
			"the file of silences has format %d, and this version reads %d", x.Format, AnswersFormat)
	}
	for _, s := range x.Silences {
		if err := s.Check(); err != nil {
			return err
		}
	}
	return nil
}

// Current leaves out what has ended.
func (x Answers) Current(now time.Time) Answers {
	x.Format = AnswersFormat
	x.Silences = slices.DeleteFunc(slices.Clone(x.Silences), func(s Silence) bool { return !now.Before(s.Until) })
	x.Acknowledged = maps.Clone(x.Acknowledged)
	maps.DeleteFunc(x.Acknowledged, func(_ string, a Acknowledgement) bool { return now.Sub(a.At) >= Acknowledged })
	return x
}

// With is the state as people have answered it: their silences are all that there are, and
// an acknowledgement counts for a day, for the firing that it was given in, and for as long
// as the alert does not get worse. It changes neither of its arguments.
func (s State) With(x Answers) State {
	s = s.copy()
	s.Silences = slices.Clone(x.Silences)
	for key, a := range s.Alerts {
		a.AcknowledgedUntil, a.AcknowledgedBy = time.Time{}, ""
		if k, ok := x.Acknowledged[key]; ok && k.counts(a) {
			a.AcknowledgedUntil, a.AcknowledgedBy = k.At.Add(Acknowledged), k.By
		}
		s.Alerts[key] = a
	}
	return s
}

func (k Acknowledgement) counts(a Alert) bool {
	return a.Phase == Firing && !k.At.Before(a.FiredAt) && a.Severity.Rank() <= k.Severity.Rank()
}

// Acknowledge adds that somebody knows of an alert. It reports whether that fires; if not,
// there is nothing to acknowledge.
func (x Answers) Acknowledge(s State, fingerprint, by string, now time.Time) (Answers, bool) {
	a, ok := s.Alerts[fingerprint]
	if !ok || a.Phase != Firing {
		return x, false
	}
	x.Acknowledged = maps.Clone(x.Acknowledged)
	if x.Acknowledged == nil {
		x.Acknowledged = map[string]Acknowledgement{}
	}
	x.Acknowledged[fingerprint] = Acknowledgement{By: by, At: now, Severity: a.Severity}
	return x, true
}
