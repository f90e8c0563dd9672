package physical

import (
	"cmp"
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walstream"
)

// walDelay is how often WAL goes to the store that this run streams itself.
const walDelay = time.Second

// walRange is the WAL that makes a backup consistent. If a stream of the server's WAL runs, it
// stores it; else this run does. A slot keeps the WAL on the server in either case.
type walRange struct {
	r    *run
	a    *archive.Archive
	conn *replication.Conn
	slot string
	// patience is how long what another stream stores is waited for; 0 where none runs.
	patience time.Duration

	begin replication.BaseBackupStart
	until atomic.Uint64
	// streamed has how the stream of this run ended; nil while there is none.
	streamed chan error
	cancel   context.CancelFunc
	// failed ends the backup.
	failed func(error)
}

// beginWAL makes the slot, before the backup begins.
func (r *run) beginWAL(ctx context.Context) (*walRange, error) {
	w := &walRange{r: r, a: archive.New(r.store, r.manifest.Server.Name, r.system.Identifier)}
	survey, err := w.a.Survey(ctx)
	if err != nil {
		return nil, err
	}
	for _, seen := range survey.Seen {
		if age := r.Now().Sub(seen.At); age <= survey.Limit() && age >= -survey.Limit() {
			w.patience = cmp.Or(r.Patience, survey.Limit())
		}
	}
	if w.conn, err = replication.Connect(ctx, r.Target); err != nil {
		return nil, err
	}
	w.slot = "pgmedic_backup_" + r.manifest.ID[strings.LastIndexByte(r.manifest.ID, '-')+1:]
	if err := w.reserve(ctx); err != nil {
		w.conn.Close(ctx)
		return nil, err
	}
	return w, nil
}

// reserve makes the slot. Servers before 15 stream on a connection that has asked which cluster
// they are, and no other; and a name can lead to several servers.
func (w *walRange) reserve(ctx context.Context) error {
	system, err := w.conn.Identify(ctx)
	if err != nil {
		return err
	}
	if system.Identifier != w.r.system.Identifier || system.Standby != w.r.system.Standby {
		return pgmedic.Errorf(pgmedic.KindConflict, "name one server in the connection URL", "two connections led to two servers")
	}
	return w.conn.CreateTemporarySlot(ctx, w.slot)
}

// start begins to stream, if nothing else does.
func (w *walRange) start(ctx context.Context, s replication.BaseBackupStart) error {
	w.begin = s
	if w.patience == 0 {
		w.stream(ctx)
	}
	return ctx.Err()
}

// stream streams in the background.
func (w *walRange) stream(ctx context.Context) {
	r := w.r
	ctx, w.cancel = context.WithCancel(ctx)
	w.streamed = make(chan error, 1)
	go func() {
		err := walstream.RunRange(ctx, walstream.Options{
			Target: r.Target, Server: r.ServerName, Store: r.store, Slot: w.slot, MaxDelay: walDelay,
			Seal: r.Seal, Wraps: r.Wraps, Signer: r.Signer, Host: r.Host, Version: r.Version, Now: r.Now, Logger: r.Logger,
		}, walstream.Range{
			Alone: w.patience == 0,
			Conn:  w.conn, System: r.system, Timeline: w.begin.Timeline, From: w.begin.LSN,
			Until: func() wal.LSN { return wal.LSN(w.until.Load()) },
		})
		if err != nil && w.failed != nil {
			w.failed(err)
		}
		w.streamed <- err
	}()
}

// finish waits until all of the WAL is stored. A listing says so, not what was sent.
func (w *walRange) finish(ctx context.Context, end replication.BaseBackupEnd) error {
	w.until.Store(uint64(end.LSN))
	if w.streamed == nil {
		stored, err := w.wait(ctx, end)
		if err != nil || stored {
			return err
		}
		w.r.Logger.Warn("the stream of WAL does not store what the backup needs: it is streamed here as well", "waited", w.patience)
		w.stream(ctx)
	}
	select {
	case err := <-w.streamed:
		w.streamed = nil
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	failpoint.Hit(ctx, "physical-wal-stored")
	stored, err := w.stored(ctx, end)
	if err == nil && !stored {
		err = pgmedic.Errorf(pgmedic.KindFailed, "see `pgmedic wal status`, and run it again",
			"WAL from %v to %v of timeline %d is not stored, without which the backup can't be used", w.begin.LSN, end.LSN, end.Timeline)
	}
	return err
}

// wait waits for another stream, and reports whether it has stored all.
func (w *walRange) wait(ctx context.Context, end replication.BaseBackupEnd) (bool, error) {
	const longest = 20 * time.Second
	for pause, waited := time.Second, time.Duration(0); ; pause = min(2*pause, longest) {
		if stored, err := w.stored(ctx, end); stored || err != nil {
			return stored, err
		}
		if waited >= w.patience {
			return false, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
			waited += pause
		case <-ctx.Done():
			timer.Stop()
			return false, context.Cause(ctx)
		}
	}
}

// stored reports whether all of the WAL is in the store.
func (w *walRange) stored(ctx context.Context, end replication.BaseBackupEnd) (bool, error) {
	survey, err := w.a.Survey(ctx)
	if err != nil {
		return false, err
	}
	return survey.Reach(end.Timeline, w.begin.LSN) >= end.LSN, nil
}

// close ends the stream, if it runs, and with its connection the slot.
func (w *walRange) close(ctx context.Context) {
	if w.streamed != nil {
		w.cancel()
		if err := <-w.streamed; err != nil { // what ends the run is another error, or this one
			w.r.Logger.Debug("the stream of the backup's WAL has ended", "error", err)
		}
	}
	w.conn.Close(ctx)
}
