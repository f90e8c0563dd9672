package seal

import (
	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
)

// Wrap is one way to open what is sealed with a Key.
type Wrap struct {
	// Name is what the wrapped key is stored under.
	Name string
	To   age.Recipient
}

// NewWrapped makes a key as NewKey does, and hands it over for each of wraps, sealed to that:
// before anything is sealed with it, so that nothing is stored that could not be opened. The
// key itself is gone when the process ends. No wraps are a pgmedic.KindUsage error.
func NewWrapped(wraps []Wrap, put func(name string, wrapped []byte) error) (*Key, error) {
	if len(wraps) == 0 {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set backup.recipients or backup.encryption_key", "it is to be encrypted, and nothing says for whom")
	}
	to := make([]age.Recipient, 0, len(wraps))
	for _, w := range wraps {
		to = append(to, w.To)
	}
	key, err := NewKey(to...)
	if err != nil {
		return nil, err
	}
	for _, w := range wraps {
		wrapped, err := key.Wrap(w.To)
		if err != nil {
			return nil, err
		}
		if err := put(w.Name, wrapped); err != nil {
			return nil, err
		}
	}
	return key, nil
}
