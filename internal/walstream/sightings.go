package walstream

import (
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// sightings decides when it is stored how far the server is: once every archive.SeenEvery,
// also while WAL flows, and a few times without waiting for that. Windows are dated by them
// where no key is, and one alone dates a beginning or an end. The zero value has stored none.
type sightings struct {
	// last is the one that was stored last, and at when.
	last wal.Observation
	at   time.Time
	// early is how many are stored before their time: each once all WAL is stored up to the
	// one before it.
	early int
}

// hasten has two stored as soon as they can be: for the beginning of a window and for an end
// of it.
func (s *sightings) hasten() { s.early = 2 }

// due reports whether an observation is to be stored now, and counts it as stored. All WAL is
// stored up to a position.
func (s *sightings) due(seen wal.Observation, stored wal.LSN, now time.Time) bool {
	if seen.LSN == 0 || seen == s.last {
		return false
	}
	if seen.Timeline != s.last.Timeline {
		*s = sightings{}
		s.hasten()
	}
	early := s.early > 0 && stored >= s.last.LSN
	if !early && now.Sub(s.at) < archive.SeenEvery {
		return false
	}
	if early {
		s.early--
	}
	s.last, s.at = seen, now
	return true
}

// ends reports whether the last observation of a stream that ends is to be stored, and counts
// it as stored.
func (s *sightings) ends(seen wal.Observation, now time.Time) bool {
	if seen.LSN == 0 || seen == s.last {
		return false
	}
	s.last, s.at = seen, now
	return true
}
