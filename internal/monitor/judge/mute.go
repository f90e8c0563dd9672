package judge

import (
	"path"
	"time"

	"github.com/pgmedic/pgmedic"
)

// Mute silences a finding until a day, for a reason that the report repeats.
type Mute struct {
	// ID is the finding's id, and Object a pattern as path.Match takes it for
	// its object; an empty Object is any.
	ID     string
	Object string
	Reason string
	// Until is when the finding comes back.
	Until time.Time
}

// Muted is a finding that somebody silenced.
type Muted struct {
	pgmedic.Finding
	Reason string    `json:"reason"`
	Until  time.Time `json:"until"`
}

// covers reports whether the mute silences a finding at a moment.
func (m Mute) covers(f pgmedic.Finding, now time.Time) bool {
	if m.ID != f.ID || !now.Before(m.Until) {
		return false
	}
	if m.Object == "" || m.Object == f.Object {
		return true
	}
	// A pattern that is none matches nothing; the configuration refuses it.
	ok, err := path.Match(m.Object, f.Object)
	return ok && err == nil
}

// Silence parts findings into those to show and those that are muted at a
// moment, each in their order. The first mute that covers a finding counts.
func Silence(findings []pgmedic.Finding, mutes []Mute, now time.Time) (shown []pgmedic.Finding, muted []Muted) {
	shown, muted = []pgmedic.Finding{}, []Muted{}
next:
	for _, f := range findings {
		for _, m := range mutes {
			if m.covers(f, now) {
				muted = append(muted, Muted{Finding: f, Reason: m.Reason, Until: m.Until.UTC()})
				continue next
			}
		}
		shown = append(shown, f)
	}
	return shown, muted
}
