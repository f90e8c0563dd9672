package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic/internal/words"
)

// deliveries are the messages that tell a channel of events.
func deliveries(c Channel, events []Event, now time.Time) (all []delivery) {
	if len(events) == 0 {
		return nil
	}
	one := func(events ...Event) {
		all = append(all, delivery{ID: events[0].ID, Channel: c.Name, Events: events, At: now.UTC()})
	}
	var together []Event
	for _, e := range events {
		if c.alone() || e.Name == DigestName {
			one(e)
		} else {
			together = append(together, e)
		}
	}
	if len(together) > 0 {
		one(together...)
	}
	return all
}

// queue is what one channel is sent, oldest first.
type queue struct {
	channel  Channel
	messages []*kept
}

// queues sorts fresh messages and those of earlier runs by channel.
func (s *Sender) queues(fresh []*kept) (all []queue, dropped []Result, problems []error) {
	var earlier []*kept
	waiting, err := s.spool.Waiting()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		problems = append(problems, err)
	}
	for _, name := range waiting {
		if slices.ContainsFunc(fresh, func(k *kept) bool { return k.message != nil && k.message.Name == name }) {
			continue
		}
		k, err := s.take(name)
		if err != nil {
			problems = append(problems, err)
		}
		if k == nil {
			continue
		}
		known, old := slices.Contains(names(s.o.Channels), k.Channel), s.o.Now().Sub(k.At) > keepFor
		switch {
		case !known && !old: // another configuration's, or a channel that can't be used now
			k.release()
		case !known:
			s.o.Logger.Warn("a kept message is dropped: its channel is not configured", "channel", k.Channel, "event", k.Events[0].String())
			k.remove()
		case old:
			r := s.result(k)
			r.Outcome, r.Err = OutcomeLost, fmt.Errorf("a message of %s could not be sent for %s and is dropped", clock(k.At), words.Duration(keepFor))
			dropped = append(dropped, r)
			k.remove()
		default:
			earlier = append(earlier, k)
		}
	}
	return s.byChannel(append(earlier, fresh...)), dropped, problems
}

// byChannel sorts messages into queues, and keeps their order.
func (s *Sender) byChannel(messages []*kept) (all []queue) {
	for _, c := range s.o.Channels {
		q := queue{channel: c}
		for _, k := range messages {
			if k.Channel == c.Name {
				q.messages = append(q.messages, k)
			}
		}
		if len(q.messages) > 0 {
			all = append(all, q)
		}
	}
	return all
}
