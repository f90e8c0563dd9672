package pgmedic

import "slices"

// Stream is a connection over which a server sends its WAL to a standby: who it is
// said to be at either end. Both ends know it by the slot, or where none is used by
// the application_name; one that may see neither knows nothing.
type Stream struct {
	Name, Slot string
}

// Unmatched returns those of the streams of a server that none of the standbys'
// ends belongs to. A standby stands for one stream. Where one of two ends does not
// say whose it is they are taken for the same.
func Unmatched(streams, ends []Stream) (left []Stream) {
	left, ends = slices.Clone(streams), slices.Clone(ends)
	for _, sure := range []bool{true, false} {
		left = slices.DeleteFunc(left, func(s Stream) bool {
			i := slices.IndexFunc(ends, func(e Stream) bool {
				same, known := s.same(e)
				return same && known == sure
			})
			if i >= 0 {
				ends = slices.Delete(ends, i, i+1)
			}
			return i >= 0
		})
	}
	return left
}

// same reports whether two ends may be of one stream, and known whether both say
// enough to tell.
func (s Stream) same(other Stream) (same, known bool) {
	if s == (Stream{}) || other == (Stream{}) {
		return true, false
	}
	if s.Slot != "" || other.Slot != "" {
		return s.Slot == other.Slot, true
	}
	return s.Name == other.Name, true
}
