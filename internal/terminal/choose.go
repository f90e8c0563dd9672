package terminal

import "strings"

// List is which of several items is marked, and which of them are on the screen. The zero
// value marks the first.
type List struct {
	// Marked is the index of the marked item.
	Marked int

	first int // on the screen
}

// Press moves the mark among count items, of which room fit on the screen, and reports
// whether the key does that: up and down, or a screen further with page up and page down.
// The mark stops at either end.
func (l *List) Press(stroke string, count, room int) bool {
	var by int
	switch stroke {
	case "up", "ctrl+p":
		by = -1
	case "down", "ctrl+n", "tab":
		by = 1
	case "pgup":
		by = -room
	case "pgdown":
		by = room
	default:
		return false
	}
	l.Marked = max(0, min(l.Marked+by, count-1))
	return true
}

// Window returns which items are on a screen with room for some of count items, from and
// until these indexes: those around the marked one, moved no further than it takes.
func (l *List) Window(count, room int) (from, until int) {
	l.first = max(min(l.first, l.Marked), l.Marked-room+1)
	return l.first, min(l.first+room, count)
}

// Reset marks the first item, with a window that begins there.
func (l *List) Reset() { *l = List{} }

// maxInput is how many bytes of an Input can be typed.
const maxInput = 200

// Input is a line of text that is being typed, 200 bytes at most.
type Input struct{ Text string }

// Press edits the text, and reports whether that changed it: characters are typed at its
// end, backspace takes the last one away, and ctrl+u takes all. Control characters are left
// out, and text that does not fit is not typed.
func (i *Input) Press(key Key) bool {
	before := i.Text
	switch key.Stroke {
	case "backspace":
		if runes := []rune(i.Text); len(runes) > 0 {
			i.Text = string(runes[:len(runes)-1])
		}
	case "ctrl+u":
		i.Text = ""
	default:
		typed := strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return -1
			}
			return r
		}, key.Text)
		if len(i.Text)+len(typed) <= maxInput {
			i.Text += typed
		}
	}
	return i.Text != before
}
