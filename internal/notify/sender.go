package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/egress"
	"github.com/pgmedic/pgmedic/internal/sending"
	"github.com/pgmedic/pgmedic/internal/spool"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Options say how a Sender sends.
type Options struct {
	Channels []Channel
	// Routes say which channels an event goes to. None: to all.
	Routes []Route
	// Absent are names of channels that are configured and can't be used now: what is
	// kept for them stays.
	Absent []string
	// Dir is the folder for messages that could not be sent, and for what was reported. It is
	// made when it is needed.
	Dir string
	// OnSuccess is SuccessNever, SuccessFirst or SuccessAlways. Empty: SuccessNever.
	OnSuccess string
	// Anonymous leaves out every name.
	Anonymous bool
	// Link is put into messages, or empty.
	Link string
	// AllowPrivate lets private addresses and the loopback be reached.
	AllowPrivate bool
	// Resolve reads secrets.
	Resolve Resolve
	// Host is what this machine is called.
	Host string
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Wait waits between tries, or until the context ends. Nil: by the clock.
	Wait func(ctx context.Context, d time.Duration) error
	// Proxy chooses a request's proxy. Nil: http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
	// Logger receives what is not wrong enough for an error. Nil disables logging.
	Logger *slog.Logger
	// Reached is called between an answer of a channel and the removal of the message;
	// tests end the program there. Nil: nothing.
	Reached func(ctx context.Context)
}

// Sender sends events to channels. It may be used by several goroutines and processes.
type Sender struct {
	o     Options
	http  *sending.Client
	mail  mailer
	spool spool.Folder
}

// New returns a Sender. Errors are of KindUsage: a channel or a route that can't work.
func New(o Options) (*Sender, error) {
	for i, c := range o.Channels {
		if err := c.Check(); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(o.Channels[:i], func(other Channel) bool { return other.Name == c.Name }) {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "give each a name of its own", "two channels are named %s", c.Name)
		}
	}
	if err := checkRoutes(o.Routes, slices.Concat(names(o.Channels), o.Absent)); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Reached == nil {
		o.Reached = func(context.Context) {}
	}
	if o.OnSuccess == "" {
		o.OnSuccess = SuccessNever
	}
	g := egress.New(o.AllowPrivate)
	s := &Sender{
		o: o, http: &sending.Client{Guard: g, Now: o.Now, Proxy: o.Proxy}, mail: mailer{guard: g, host: o.Host}, spool: spool.Folder{Dir: o.Dir},
	}
	for _, c := range o.Channels {
		if err := s.checkLiteral(c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// Outcome says what became of a message.
type Outcome string

// The outcomes.
const (
	// OutcomeSent means that the service took the message.
	OutcomeSent Outcome = "sent"
	// OutcomeKept means that it could not, and that the next run tries again.
	OutcomeKept Outcome = "kept"
	// OutcomeRefused means that it never will.
	OutcomeRefused Outcome = "refused"
	// OutcomeLost means that it could not, and that the message could not be kept, or was
	// kept too long.
	OutcomeLost Outcome = "lost"
)

// Result is what became of one message to one channel.
type Result struct {
	Channel string   `json:"channel"`
	Type    string   `json:"type"`
	Outcome Outcome  `json:"outcome"`
	Events  []string `json:"events"`
	// Fingerprints are those of the events, in their order.
	Fingerprints []string      `json:"-"`
	Took         time.Duration `json:"-"`
	// At is when the message was made.
	At time.Time `json:"-"`
	// Err says why it was not sent, or which part of its receivers was not reached.
	Err error `json:"-"`
}

// Send sends what earlier runs could not, and then the events: each to the channels of
// its route, in order. It tries a channel three times within 30 seconds; what it could
// not send then is kept for the next run. What has been told to be wrong is not told
// again before repeatAfter has passed, unless it is worse, but to channels that have not
// heard of it because they are new or have refused it. A success is reported where it
// ends what was wrong, or where OnSuccess asks for it.
//
// The error is of KindDegraded and names each channel that was not reached; nothing that
// was to be sent is left out silently.
func (s *Sender) Send(ctx context.Context, events []Event) ([]Result, error) {
	fresh, broken, problem := s.prepare(ctx, events)
	queues, dropped, err := s.queues(fresh)
	problem = append(problem, err...)
	results := slices.Concat(dropped, s.sendAll(ctx, queues))
	if about := s.aboutChannels(results, broken); len(about) > 0 {
		fresh, _, err := s.prepare(ctx, about)
		problem = append(problem, err...)
		results = append(results, s.sendAll(ctx, s.byChannel(fresh))...)
	}
	if err := s.notTold(context.WithoutCancel(ctx), results); err != nil {
		problem = append(problem, err)
	}
	return results, degraded(results, problem, "")
}

// hintTestAgain stands in for sending.HintKept after a test, of which nothing is kept.
const hintTestAgain = "mend the channel, then run pgmedic notify test again"

// Test sends an event to each named channel, or to all, whatever was reported before; what
// can't be sent is not kept. A channel that keeps what is wrong hears at once that it no
// longer is.
func (s *Sender) Test(ctx context.Context, channels []string, e Event) ([]Result, error) {
	for _, name := range channels {
		if !slices.ContainsFunc(s.o.Channels, func(c Channel) bool { return c.Name == name }) {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "the channels are "+strings.Join(names(s.o.Channels), ", "), "there is no channel %s", name)
		}
	}
	var queues []queue
	for _, c := range s.o.Channels {
		if len(channels) > 0 && !slices.Contains(channels, c.Name) {
			continue
		}
		events := []Event{s.shown(s.finished(e))}
		if c.keepsState() && e.State == StateFiring {
			end := e
			end.ID, end.State = "", StateResolved
			events = append(events, s.shown(s.finished(end)))
		}
		q := queue{channel: c}
		for _, one := range events {
			q.messages = append(q.messages, &kept{delivery: delivery{ID: one.ID, Channel: c.Name, Events: []Event{one}, At: s.o.Now()}})
		}
		queues = append(queues, q)
	}
	results := s.sendAll(ctx, queues)
	for i := range results {
		if results[i].Outcome == OutcomeKept {
			results[i].Outcome = OutcomeLost
		}
	}
	return results, degraded(results, nil, hintTestAgain)
}

// Names are the names of the channels.
func (s *Sender) Names() []string { return names(s.o.Channels) }

// Waiting counts the messages that earlier runs could not send.
func (s *Sender) Waiting() (int, error) {
	if _, err := os.Stat(s.o.Dir); os.IsNotExist(err) {
		return 0, nil
	}
	waiting, err := s.spool.Waiting()
	return len(waiting), err
}

// finished is an event with everything that it has.
func (s *Sender) finished(e Event) Event {
	e.Host, e.URL = s.o.Host, s.o.Link
	return e.complete(s.o.Now())
}

// shown is an event as it is sent.
func (s *Sender) shown(e Event) Event {
	if s.o.Anonymous {
		return e.anonymous()
	}
	return e
}

// prepare notes events and writes down what is to be sent of them, before anything is.
// What can't be written down is sent all the same.
//
// It also returns the channels that are known to be broken.
func (s *Sender) prepare(ctx context.Context, events []Event) (fresh []*kept, broken []string, problems []error) {
	l := newLedger()
	writable := s.spool.Create()
	if writable == nil {
		unlock, err := s.spool.Lock(ctx)
		if err == nil {
			defer unlock()
			if l, err = readLedger(s.spool, s.o.Now()); err != nil {
				problems = append(problems, err)
			}
		} else {
			writable = err
		}
	}
	if writable != nil && len(events) > 0 {
		problems = append(problems, fmt.Errorf("what can't be sent is lost: %w", writable))
	}
	for _, a := range l.Alarms {
		if a.Name == brokenName {
			broken = append(broken, a.Object)
		}
	}
	batches := map[string][]Event{}
	for _, e := range events {
		v := l.apply(s.finished(e), s.o.OnSuccess)
		v.event.Text = v.event.line()
		to := s.audience(v)
		if len(to) == 0 {
			s.o.Logger.Debug("nothing new is reported", "event", v.event.Name, "since", v.event.Since, "count", v.event.Count)
			continue
		}
		l.tell(v.event, to)
		for _, c := range to {
			batches[c.Name] = append(batches[c.Name], s.shown(v.event))
		}
	}
	for _, c := range s.o.Channels {
		for _, d := range deliveries(c, batches[c.Name], s.o.Now()) {
			k := &kept{delivery: d}
			if writable == nil {
				var err error
				if k, err = s.keep(d); err != nil {
					problems = append(problems, fmt.Errorf("keep a message to channel %s: %w", c.Name, err))
					k = &kept{delivery: d}
				}
			}
			fresh = append(fresh, k)
		}
	}
	// Messages first: a run that is killed here tells twice, and never not at all.
	if writable == nil && len(events) > 0 {
		if err := writeLedger(s.spool, l, s.o.Now()); err != nil {
			problems = append(problems, err)
		}
	}
	return fresh, broken, problems
}

// audience are the channels that hear of an event.
func (s *Sender) audience(v verdict) (to []Channel) {
	if !v.tell && !v.untold {
		return nil
	}
	routed := channelsFor(v.event, s.o.Routes, s.o.Channels)
	for _, c := range s.o.Channels {
		if v.event.Fingerprint == Fingerprint("channel", s.o.Host, c.Name) {
			continue // it can't report about itself
		}
		if v.event.State == StateResolved && c.SkipResolved {
			continue
		}
		byRoute := slices.ContainsFunc(routed, func(r Channel) bool { return r.Name == c.Name })
		told := slices.Contains(v.told, c.Name)
		switch {
		case v.event.State == StateFiring && byRoute && (v.tell && !v.event.Further || !told),
			v.event.State == StateInfo && byRoute && !c.keepsState(),
			v.event.State == StateResolved && (told || byRoute && !v.onlyTold && !c.keepsState()):
			to = append(to, c)
		}
	}
	return to
}

// sendAll sends to all channels at once, and to each in order.
func (s *Sender) sendAll(ctx context.Context, queues []queue) (results []Result) {
	by := make([][]Result, len(queues))
	var group sync.WaitGroup
	for i, q := range queues {
		group.Go(func() { by[i] = s.sendQueue(ctx, q) })
	}
	group.Wait()
	return slices.Concat(by...)
}

// patience bounds the tries of one channel in one run.
const patience = 30 * time.Second

// sendQueue sends what one channel is sent. After a message that can't be sent now the
// others are kept, so that they stay in order.
func (s *Sender) sendQueue(ctx context.Context, q queue) (results []Result) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var down error
	for _, k := range q.messages {
		r := s.result(k)
		began := s.o.Now()
		err := down
		if err == nil {
			err = s.try(ctx, q.channel, k.delivery)
		}
		r.Took, r.Err = s.o.Now().Sub(began), err
		var partial *sending.PartialError
		switch {
		case err == nil, errors.As(err, &partial):
			r.Outcome = OutcomeSent
			s.o.Reached(ctx)
			k.remove()
		case sending.Permanent(err):
			r.Outcome = OutcomeRefused
			k.remove()
		case k.message == nil:
			r.Outcome, down = OutcomeLost, err
		default:
			r.Outcome, down = OutcomeKept, err
			k.release()
		}
		results = append(results, r)
	}
	return results
}

func (s *Sender) result(k *kept) Result {
	r := Result{Channel: k.Channel, At: k.At}
	for _, c := range s.o.Channels {
		if c.Name == k.Channel {
			r.Type = c.Type
		}
	}
	for _, e := range k.Events {
		r.Events, r.Fingerprints = append(r.Events, e.Name), append(r.Fingerprints, e.Fingerprint)
	}
	return r
}

// try sends a message, up to three times. An e-mail that some of its receivers have got is
// a sending.PartialError about the others.
func (s *Sender) try(ctx context.Context, c Channel, d delivery) error {
	reached := map[string]bool{}
	err := s.again(ctx, func() error { return s.deliver(ctx, c, d, reached) })
	if err != nil && len(reached) > 0 {
		return &sending.PartialError{Missed: len(c.To) - len(reached), Of: len(c.To), Err: err}
	}
	return err
}

// again does something up to three times, as long as that can help and as the context
// lets it wait.
func (s *Sender) again(ctx context.Context, do func() error) (err error) {
	for _, pause := range []time.Duration{0, time.Second, 5 * time.Second} {
		if pause > 0 {
			pause = sending.WaitFor(err, pause)
			deadline, limited := ctx.Deadline()
			if limited && time.Until(deadline) <= pause {
				return err
			}
			if s.o.Wait(ctx, pause) != nil {
				return err
			}
		}
		if err = do(); err == nil || sending.Permanent(err) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// degraded makes what was not delivered the error of the run. Lost is the hint about messages
// that were not kept and that the next run may be able to send.
func degraded(results []Result, problems []error, lost string) error {
	var parts []string
	hint := ""
	add := func(text, next string) {
		if !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
		if hint == "" {
			hint = next
		}
	}
	notKept := func(err error) string {
		if hint := sending.HintOf(err); hint != sending.HintKept {
			return hint
		}
		return lost
	}
	for _, r := range results {
		switch r.Outcome {
		case OutcomeSent:
			if r.Err != nil {
				add(fmt.Sprintf("channel %s: %s", r.Channel, r.Err), notKept(r.Err))
			}
		case OutcomeKept:
			add(fmt.Sprintf("channel %s: %s; the message is kept", r.Channel, r.Err), sending.HintOf(r.Err))
		case OutcomeRefused, OutcomeLost:
			add(fmt.Sprintf("channel %s: %s", r.Channel, r.Err), notKept(r.Err))
		}
	}
	for _, p := range problems {
		add(p.Error(), "check notifications.dir")
	}
	if len(parts) == 0 {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindDegraded, hint, "not every notification was delivered: %s", words.OneLine(strings.Join(parts, "; ")))
}
