package walstream

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walspool"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Options say what is streamed, and where to.
type Options struct {
	// Target is the server.
	Target postgres.Target
	// Store is where WAL goes, under the name Server; empty is the cluster's system
	// identifier.
	Store  store.Store
	Server string
	// Slot is the permanent slot that keeps WAL on the server until it is stored. It is
	// made if it does not exist.
	Slot string
	// MaxDelay is how long WAL that has arrived may take until it begins to be stored.
	// It must be a second or more.
	MaxDelay time.Duration
	// Seal, Wraps and Signer are those of archive.EpochOptions.
	Seal   seal.Options
	Wraps  []seal.Wrap
	Signer *signature.Key
	// Spool has commits of the server wait until their WAL is flushed there, if the server is
	// set up for it: synchronous_standby_names names SyncName. It is the stream's until Run has
	// returned. Nil has none wait.
	Spool *walspool.Folder
	// Host and Version are of pgmedic.
	Host, Version string
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
	// Notify gets what should be noticed, one at a time and in order. It must return at
	// once. Nil discards it.
	Notify func(Notice)
	// Logger gets what a person should know. Nil discards it.
	Logger *slog.Logger
	// silence is how long a server that is asked may say nothing. Zero is a minute; tests
	// shorten it.
	silence time.Duration
}

const (
	// epochAge is how old an epoch becomes, and signAgain how much older where the key that
	// is to sign the next one can't.
	epochAge  = 24 * time.Hour
	signAgain = 10 * time.Minute
	// defaultSilence is Options.silence.
	defaultSilence = time.Minute
	// flushTimeout is how long the last WAL may take to be stored when the stream is
	// told to stop.
	flushTimeout = 30 * time.Second
)

// Run streams until ctx ends, and then stores what has arrived: the error is nil if that
// was all right. What can pass is tried again for as long as it takes: a server or a
// store that is away. Other errors end it:
//
//   - pgmedic.KindConflict: another process uses the slot or the spool; or the server's WAL
//     ends before what is stored of it, so that it is not the one that the WAL came from.
//   - pgmedic.KindUsage: what must be set otherwise.
//   - pgmedic.KindUnreachable: the server refused the role from the start, or the last
//     WAL could not be stored when it was asked to stop.
func Run(ctx context.Context, o Options) error {
	r, err := newRunner(o)
	switch {
	case err != nil:
		return err
	case o.Spool != nil:
		return r.runSync(ctx)
	}
	return r.run(ctx)
}

// run streams without a spool, or beside what fills that.
func (r *runner) run(ctx context.Context) error {
	var first time.Time
	for attempts := 0; ; {
		before := r.total
		err := r.once(ctx)
		switch {
		case errors.Is(err, errNotStored):
			return pgmedic.Errorf(pgmedic.KindUnreachable, "start it again once the store can be reached and takes it", "stop streaming WAL: %w", &cause{err})
		case errors.Is(err, errDiffers):
			return err
		case done(ctx):
			return nil
		case !r.connected && refused(err):
			return err
		case errors.Is(err, errRotate):
			attempts = 0
			continue
		case errors.Is(err, errAgain):
			continue
		}
		if r.total > before {
			attempts = 0
		}
		if attempts++; attempts == 1 {
			first = r.o.Now()
		}
		r.watch.interrupted(err)
		wait, again := replication.Retry(err, attempts, r.o.Now().Sub(first))
		if !again {
			return err
		}
		r.o.Logger.Warn("streaming WAL was interrupted and is tried again", "error", err, "wait", wait)
		if !pause(ctx, wait) {
			return nil
		}
	}
}

// refused reports whether a server refused the role: at the beginning that is a mistake
// of the set-up, and later it may be one that somebody is about to correct.
func refused(err error) bool {
	code := postgres.Code(err)
	return strings.HasPrefix(code, "28") || code == "42501"
}

// pause waits, and reports whether ctx is still there.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// errNotStored is found where the last WAL could not be stored in time.
var errNotStored = errors.New("the last WAL is not stored: the server keeps it in the slot")

// errDiffers is found where the server's WAL is not the one that is stored.
var errDiffers = conflict("the server has sent other WAL than is stored: it is not the server that the WAL came from, or was set back")

// errAgain ends an attempt that is followed by another at once.
var errAgain = errors.New("begin again")

// errRotate ends a stream whose epoch is old, so that another begins.
var errRotate = errors.New("the epoch is old")

// runner is one run.
type runner struct {
	o     Options
	epoch *archive.Epoch
	began time.Time
	// indexes is how many objects its index has.
	indexes int
	// histories are the timelines whose history the epoch has.
	histories map[wal.Timeline]bool
	// missing are the timelines of which it was said that the server has no history.
	missing map[wal.Timeline]bool
	// known is what is stored already of what the stream brings. Overlaps is true where it
	// begins with a segment that is stored, and noOverlap where the server does not have
	// that any more.
	known               map[wal.LSN][]archive.Part
	overlaps, noOverlap bool
	// stopped is true once it was said that WAL could not be read, and standby that the
	// server is one.
	stopped, standby bool
	// total is how many bytes were received.
	total   int64
	watch   *watch
	commits commits
	// sightings are of the server, over all of its streams.
	sightings sightings
	// lost is true where the stored WAL has a gap behind which nothing can be recovered.
	lost bool
	// told are the branches that were reported.
	told map[wal.Branch]bool
	// connected is true once a server let us in.
	connected bool
	// until is that of a Range, and nil without one. reached is true once all of the range
	// is stored.
	until   func() wal.LSN
	reached bool
	// spool is that of the server's cluster, and place where the stream is; both are nil
	// without Options.Spool. Tried is true once a gap was about to be recorded, and what the
	// spool has was stored first.
	spool *walspool.Spool
	place *place
	tried bool
}

func newRunner(o Options) (*runner, error) {
	if o.MaxDelay < time.Second {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "use 1s or more", "a delay of %s is too short to store WAL in", words.Duration(o.MaxDelay))
	}
	if err := replication.CheckSlotName(o.Slot); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.silence == 0 {
		o.silence = defaultSilence
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &runner{o: o, missing: map[wal.Timeline]bool{}, told: map[wal.Branch]bool{}, watch: newWatch(o)}, nil
}

// once streams until the timeline or the connection ends.
func (r *runner) once(ctx context.Context) error {
	if err := r.drainFirst(ctx); err != nil {
		return err
	}
	conn, err := replication.Connect(ctx, r.o.Target)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	system, err := conn.Identify(ctx)
	if err != nil {
		return err
	}
	if !r.connected && !conn.SlotsLimited(ctx) {
		r.o.Logger.Warn("the server keeps WAL for the slot without a limit, and its disk can fill while nothing streams: set max_slot_wal_keep_size (PostgreSQL 13 and newer)")
	}
	r.connected = true
	if system.Standby && !r.standby {
		r.standby = true
		r.o.Logger.Warn("the server is a standby: how far its primary is cannot be seen, and the state of the stored WAL stays unknown")
	}
	if err := CheckSegmentSize(system.SegmentSize); err != nil {
		return err
	}
	if _, err := r.archive(ctx, system); err != nil {
		return err
	}
	if err := r.openSpool(system); err != nil {
		return err
	}
	for {
		before := r.total
		begin, stream, err := r.start(ctx, conn, system)
		if err != nil {
			conn.Close(ctx)
			return r.recover(ctx, system, begin, err)
		}
		next, err := r.pump(ctx, stream, system, begin)
		if errors.Is(err, replication.ErrRemoved) && r.total > before {
			// What is lost begins behind what has arrived: the next attempt finds out.
			return pgmedic.Errorf(pgmedic.KindUnreachable, "", "%w", &cause{err})
		}
		if err != nil {
			conn.Close(ctx)
			return r.recover(ctx, system, begin, err)
		}
		if next == 0 {
			return pgmedic.Errorf(pgmedic.KindUnreachable, "", "the server has stopped")
		}
		r.o.Logger.Warn("the server is on a new timeline", "timeline", next)
		if system, err = conn.Identify(ctx); err != nil {
			return err
		}
	}
}

// archive returns the archive of a cluster.
func (r *runner) archive(ctx context.Context, system replication.System) (*archive.Archive, error) {
	server := r.o.Server
	if server == "" {
		server = strconv.FormatUint(system.Identifier, 10)
	}
	if r.epoch == nil {
		all, err := archive.Systems(ctx, r.o.Store, server)
		if err != nil {
			return nil, err
		}
		if others := slices.DeleteFunc(all, func(id uint64) bool { return id == system.Identifier }); len(others) > 0 {
			r.o.Logger.Warn("the WAL of another cluster is stored under the same name: was the server replaced?", "server", server, "other", others[0], "this", system.Identifier)
		}
	}
	return archive.New(r.o.Store, server, system.Identifier), nil
}

// start finds out where to go on, and starts a stream there.
func (r *runner) start(ctx context.Context, conn *replication.Conn, system replication.System) (archive.Resume, *replication.Stream, error) {
	begin, err := r.resume(ctx, conn, system)
	if err != nil {
		return begin, nil, err
	}
	o := replication.StartOptions{Slot: r.o.Slot, Timeline: begin.Timeline, From: begin.From}
	stream, err := conn.Start(ctx, o)
	if errors.Is(err, replication.ErrSlotMissing) {
		if err := conn.CreateSlot(ctx, r.o.Slot); err != nil && !errors.Is(err, replication.ErrSlotExists) {
			return begin, nil, err
		}
		r.o.Logger.Info("created a replication slot: the server keeps WAL until it is stored", "slot", r.o.Slot)
		stream, err = conn.Start(ctx, o)
	}
	if err == nil {
		r.tried = false
		r.watch.streaming(r.lost)
		r.o.Logger.Info("streaming WAL", "timeline", begin.Timeline, "from", begin.From, "slot", r.o.Slot)
	}
	return begin, stream, err
}

// resume finds out where to go on: behind what is stored, whatever the slot says.
func (r *runner) resume(ctx context.Context, conn *replication.Conn, system replication.System) (archive.Resume, error) {
	h, texts, err := r.past(ctx, conn, system.Timeline)
	if err != nil {
		return archive.Resume{}, err
	}
	a, err := r.archive(ctx, system)
	if err != nil {
		return archive.Resume{}, err
	}
	survey, err := a.Survey(ctx)
	if err != nil {
		return archive.Resume{}, err
	}
	for _, odd := range survey.Odd {
		r.o.Logger.Warn("the stored WAL is not as it should be", "problem", odd)
	}
	if t := survey.Contradicts(h); t != 0 {
		return archive.Resume{}, pgmedic.Errorf(pgmedic.KindConflict, "find out which server is the right one, and give the other a name of its own (--server)",
			"%w", conflict("the server's history of timeline %d is not the one that is stored: two servers were promoted", t))
	}
	r.failedOver(survey, h)
	r.lost = wal.Judge(survey.Inputs(), r.o.Now(), survey.Limit()).State == wal.StateBroken
	begin := survey.Resume(h)
	switch {
	case survey.SegmentSize != 0 && survey.SegmentSize != system.SegmentSize:
		return archive.Resume{}, pgmedic.Errorf(pgmedic.KindConflict, "give the server a name of its own (--server), or remove the WAL of before pg_resetwal --wal-segsize",
			"%w", conflict("the stored WAL of this cluster has segments of %d bytes, and the server's have %d", survey.SegmentSize, system.SegmentSize))
	case !begin.Found:
		if len(survey.Spans) > 0 {
			r.o.Logger.Warn("the stored WAL is of another past of this cluster than the server's: a new branch begins", "timeline", system.Timeline)
		}
		from := system.SegmentSize.Start(system.Flushed)
		begin = archive.Resume{Timeline: system.Timeline, From: from, Until: from}
	case begin.Until > system.Flushed:
		return begin, pgmedic.Errorf(pgmedic.KindConflict, "if the server was restored from an older backup without a new timeline, or this is a copy of it, give it a name of its own (--server); if it is a standby, wait until it has caught up",
			"%w", conflict("the server's WAL ends at %v, before what is stored of timeline %d, which ends at %v", system.Flushed, begin.Timeline, begin.Until))
	}
	r.overlaps = false
	if !r.noOverlap {
		again := survey.Overlap(begin, h)
		begin, r.overlaps = again, again.From != begin.From
	}
	r.noOverlap, r.known = false, survey.Parts(begin.Timeline, begin.From)
	if err := r.beginEpoch(ctx, a, system, begin); err != nil {
		return begin, err
	}
	for t, text := range texts {
		if r.histories[t] {
			continue
		}
		if err := r.epoch.PutHistory(ctx, t, text); err != nil {
			return begin, err
		}
		r.histories[t] = true
	}
	return begin, nil
}

// past returns the history of a server's timeline, and the files of it and of all that
// came before: a recovery asks for each.
func (r *runner) past(ctx context.Context, conn *replication.Conn, t wal.Timeline) (wal.History, map[wal.Timeline][]byte, error) {
	h, texts := wal.History{Timeline: t}, map[wal.Timeline][]byte{}
	if t == 1 {
		return h, texts, nil
	}
	text, err := conn.History(ctx, t)
	if err != nil {
		return h, nil, err
	}
	if h, err = wal.ParseHistory(t, text); err != nil {
		return h, nil, pgmedic.Errorf(pgmedic.KindUnreachable, "", "the server sent %w", err)
	}
	texts[t] = text
	for i, s := range h.Switches {
		if s.Timeline == 1 {
			continue
		}
		text, err := conn.History(ctx, s.Timeline)
		if errors.Is(err, replication.ErrHistoryMissing) {
			if !r.missing[s.Timeline] {
				r.o.Logger.Warn("the server does not have the history of an earlier timeline, and it is not stored", "timeline", s.Timeline, "error", err)
				r.missing[s.Timeline] = true
			}
			continue
		}
		if err != nil {
			return h, nil, err
		}
		earlier, err := wal.ParseHistory(s.Timeline, text)
		if err != nil {
			return h, nil, pgmedic.Errorf(pgmedic.KindUnreachable, "", "the server sent %w", err)
		}
		if !slices.Equal(earlier.Switches, h.Switches[:i]) {
			return h, nil, pgmedic.Errorf(pgmedic.KindConflict, "see pg_wal of the server: one of the two files is that of another server",
				"the server's histories of the timelines %d and %d contradict each other", s.Timeline, t)
		}
		texts[s.Timeline] = text
	}
	return h, texts, nil
}

// beginEpoch begins an epoch if there is none, or if it is old. All before the position
// is stored. An epoch that can't be signed is put off while there is an old one.
func (r *runner) beginEpoch(ctx context.Context, a *archive.Archive, system replication.System, begin archive.Resume) error {
	if r.epoch != nil && r.o.Now().Sub(r.began) < epochAge {
		return nil
	}
	now := r.o.Now()
	epoch, err := a.Begin(ctx, archive.EpochOptions{
		Info: archive.EpochInfo{
			StartedAt: now.UTC(), Host: r.o.Host, Program: r.o.Version, ServerVersion: system.Version, SegmentBytes: int64(system.SegmentSize),
			Timeline: begin.Timeline, From: begin.From, MaxDelaySeconds: r.o.MaxDelay.Seconds(),
		},
		Seal: r.o.Seal, Wraps: r.o.Wraps, Signer: r.o.Signer,
	})
	var sign *signature.SignError
	if errors.As(err, &sign) && r.epoch != nil && ctx.Err() == nil {
		// A key manager that is away is no reason to store no WAL.
		r.o.Logger.Warn("the next epoch of WAL can't be signed: the stream goes on with the one it has, and tries again", "error", sign, "wait", signAgain)
		r.began = now.Add(signAgain - epochAge)
		return nil
	}
	if err != nil {
		return err
	}
	r.epoch, r.began, r.histories, r.indexes = epoch, now, map[wal.Timeline]bool{}, 0
	return nil
}
