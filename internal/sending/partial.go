package sending

import (
	"fmt"

	"github.com/pgmedic/pgmedic/internal/words"
)

// PartialError says that a message was delivered to some of its receivers only. The others
// are not sent it again: the message is not kept.
type PartialError struct {
	// Missed is how many of its receivers did not get it.
	Missed, Of int
	// Err says why.
	Err error
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("%d of %s did not get the message: %s", e.Missed, words.Plural(e.Of, "receiver"), e.Err)
}

// Unwrap returns why.
func (e *PartialError) Unwrap() error { return e.Err }
