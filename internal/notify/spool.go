package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pgmedic/pgmedic/internal/spool"
)

// keepFor is how long a message is tried that can't be sent. This threshold is our choice.
const keepFor = 7 * 24 * time.Hour

// delivery is what one channel is sent: an event, or several in one message.
type delivery struct {
	// ID is the same each time that it is sent.
	ID      string  `json:"id"`
	Channel string  `json:"channel"`
	Events  []Event `json:"events"`
	// At is when it was made.
	At time.Time `json:"at"`
}

// kept is a delivery that was written down, unless that was impossible.
type kept struct {
	delivery
	message *spool.Message
}

func (k *kept) remove() {
	if k.message != nil {
		k.message.Remove()
	}
}

func (k *kept) release() {
	if k.message != nil {
		k.message.Release()
	}
}

// keep writes a delivery down.
func (s *Sender) keep(d delivery) (*kept, error) {
	data, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("write a message as JSON: %w", err)
	}
	m, err := s.spool.Put(spool.Name(d.ID, d.Channel), data)
	if err != nil {
		return nil, err
	}
	return &kept{delivery: d, message: m}, nil
}

// take returns a delivery that an earlier run wrote down, or nil where another has it.
func (s *Sender) take(name string) (*kept, error) {
	m, err := s.spool.Take(name)
	if m == nil {
		return nil, err
	}
	k := &kept{message: m}
	err = json.Unmarshal(m.Data, &k.delivery)
	if err == nil && (len(k.Events) == 0 || name != spool.Name(k.ID, k.Channel)) {
		err = errors.New("it is not a message")
	}
	if err != nil {
		k.remove()
		return nil, fmt.Errorf("read a kept message, which is dropped: %w", err)
	}
	return k, nil
}
