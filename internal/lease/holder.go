package lease

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Options say what a lease is taken of.
type Options struct {
	Archive *archive.Archive
	// Lease says who reads what. Its Format and Seconds are set by what takes it.
	Lease Lease
	// Every is how often a Holder renews it. Zero is RunningEvery.
	Every time.Duration
	// Logger receives warnings. Nil disables logging.
	Logger *slog.Logger
	// Now is the time. Nil is time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Every == 0 {
		o.Every = RunningEvery
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Lease.Format, o.Lease.Spans = format, wal.MergeSpans(o.Lease.Spans)
	return o
}

// Holder is a lease that is renewed until it is released.
type Holder struct {
	o Options
	// stop ends the renewals, also one that waits for a store.
	stop context.CancelFunc
	done sync.WaitGroup
	// keys are those of its objects, the newest last, with those that may not be there because
	// an error came back. The one before the newest stays until the next renewal: whoever
	// listed it can still read it.
	keys []string
}

// unleased is the warning of a run that goes on without a lease.
const unleased = "no lease can be written into the store: a prune or a deletion on another host may delete what is read"

// Take takes a lease, and renews it until Release is called or ctx ends. That the store can't
// be written to is a warning and no error: a restore goes on without it.
func Take(ctx context.Context, o Options) *Holder {
	ctx, stop := context.WithCancel(ctx)
	h := &Holder{o: o.withDefaults(), stop: stop}
	h.o.Lease.Seconds = int64(Running / time.Second)
	h.renew(ctx)
	h.done.Go(func() {
		ticks := time.NewTicker(h.o.Every)
		defer ticks.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
				h.renew(ctx)
			}
		}
	})
	return h
}

func (h *Holder) renew(ctx context.Context) {
	key, err := put(ctx, h.o)
	if key != "" {
		h.keys = append(h.keys, key)
	}
	if err != nil {
		if ctx.Err() == nil {
			h.o.Logger.Warn(unleased, "error", err)
		}
		return
	}
	for len(h.keys) > 2 {
		h.remove(ctx, h.keys[0])
		if ctx.Err() != nil {
			return // Release removes it
		}
		h.keys = h.keys[1:]
	}
}

func (h *Holder) remove(ctx context.Context, key string) {
	if err := h.o.Archive.Store().Delete(ctx, key); err != nil {
		h.o.Logger.Debug("a lease is left; it ends by itself", "key", key, "error", err)
	}
}

// patience bounds how long a store is waited for: a recovery waits meanwhile.
const patience = 30 * time.Second

// Release ends the lease. It may be called again, by the same goroutine.
func (h *Holder) Release(ctx context.Context) {
	h.stop()
	h.done.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for _, key := range h.keys {
		h.remove(ctx, key)
	}
	h.keys = nil
}

// put stores a lease: a new object, since nothing is overwritten. With an error there is a key
// where the object may be there all the same.
func put(ctx context.Context, o Options) (key string, err error) {
	text, err := json.MarshalIndent(o.Lease, "", "  ")
	if err == nil && len(text) >= maxBytes {
		err = errors.New("it is of too many stretches of WAL")
	}
	if err != nil {
		return "", fmt.Errorf("write a lease: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key = o.Archive.Folder() + prefix + o.Now().UTC().Format("20060102T150405Z") + "-" + strings.ToLower(rand.Text()[:12]) + suffix
	if _, err := o.Archive.Store().Put(ctx, key, bytes.NewReader(append(text, '\n'))); err != nil {
		return key, fmt.Errorf("store a lease: %w", err)
	}
	return key, nil
}

// Leave takes a lease that counts for Recovering and that nothing renews: for what reads
// later on.
func Leave(ctx context.Context, o Options) {
	o = o.withDefaults()
	o.Lease.Seconds = int64(Recovering / time.Second)
	if _, err := put(ctx, o); err != nil && ctx.Err() == nil {
		o.Logger.Warn(unleased, "error", err)
	}
}

// note is what a file remembers of a lease that one run after another renews.
type note struct {
	At  time.Time `json:"at"`
	Key string    `json:"key"`
}

// Renew takes a lease that counts for Recovering, or renews it, unless that was done less
// than RecoveringEvery ago: a file remembers when. Without such a file nothing is taken,
// since each of thousands of runs would take one.
func Renew(ctx context.Context, o Options, file string) error {
	o = o.withDefaults()
	o.Lease.Seconds = int64(Recovering / time.Second)
	last, err := readNote(file)
	if err != nil {
		return err
	}
	age := o.Now().Sub(last.At)
	if age >= 0 && age < RecoveringEvery {
		return nil
	}
	next := note{At: o.Now().UTC()}
	if err := writeNote(file, next); err != nil { // before: what can't be remembered is not taken
		return err
	}
	if next.Key, err = put(ctx, o); err != nil { // the next try is in an hour
		if ctx.Err() == nil {
			o.Logger.Warn(unleased, "error", err)
		}
		next.Key = last.Key
	}
	// The file is in a folder that others may have filled.
	if name, ours := strings.CutPrefix(last.Key, o.Archive.Folder()+prefix); ours && !strings.Contains(name, "/") && next.Key != last.Key {
		h := Holder{o: o}
		h.remove(ctx, last.Key)
	}
	return writeNote(file, next)
}

// readNote reads a file. One that is missing or damaged remembers nothing.
func readNote(file string) (n note, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, fmt.Errorf("read when the lease was renewed: %w", err)
	}
	if json.Unmarshal(text, &n) != nil {
		n = note{}
	}
	return n, nil
}

func writeNote(file string, n note) error {
	text, err := json.Marshal(n)
	if err == nil {
		err = os.WriteFile(file+".part", append(text, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(file+".part", file)
	}
	if err != nil {
		return fmt.Errorf("note when the lease was renewed: %w", err)
	}
	return nil
}
