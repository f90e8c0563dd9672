package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// maxResumes is how often in a row a reader goes on after being cut off;
	// resumeAfter is how many bytes make a new row.
	maxResumes  = 5
	resumeAfter = 8 << 20
)

// Open implements store.Store.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	const op = "open"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "", "open %s: negative offset %d", key, offset)
	}
	if length > math.MaxInt64-offset {
		length = -1
	}
	r := &reader{ctx: ctx, s: s, key: key, name: name, at: offset}
	if length == 0 || offset == math.MaxInt64 { // nothing can be asked for, but the object must be there
		if _, err := s.head(ctx, name); err != nil {
			return nil, s.failed(ctx, op, key, err)
		}
		r.end = r.at
		return r, nil
	}
	err = s.quick(ctx, "open an object", func(context.Context) error { return r.open(length) }) //nolint:contextcheck // the reader outlives this request, and has the ctx of Open
	if err = s.confirm(ctx, name, err); err == nil {
		return r, nil
	}
	if store.Ended(ctx) == nil && s.explain(err).Past {
		r.end = r.at
		return r, nil
	}
	return nil, s.failed(ctx, op, key, err)
}

// reader reads a range of an object, with as many requests as it takes.
type reader struct {
	ctx       context.Context // of Open, whose contract says that it governs this
	s         *Store
	key, name string

	body    io.ReadCloser
	cancel  context.CancelFunc // of body's request
	version string             // of the object that was opened
	at      int64              // of the next byte
	end     int64              // behind the last byte

	resumes int   // since the offset
	since   int64 // where the last row of them began
}

// open sends a request for what is left, or the first one, for length bytes.
func (r *reader) open(length int64) error {
	first := r.version == ""
	if !first {
		length = r.end - r.at
	}
	ctx, cancel := context.WithCancel(r.ctx)
	info, body, err := r.s.service.Get(ctx, r.name, r.at, length, r.version)
	if err != nil {
		cancel()
		return err
	}
	if first {
		r.version = info.Version
		r.end = max(r.at, info.SizeBytes)
		if length >= 0 {
			r.end = min(r.end, r.at+length)
		}
		r.since = r.at
	}
	r.body, r.cancel = body, cancel
	return nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for {
		if err := store.Ended(r.ctx); err != nil {
			return 0, fmt.Errorf("read %s: %w", r.key, err)
		}
		if r.at == r.end {
			return 0, io.EOF
		}
		if len(p) == 0 {
			return 0, nil
		}
		n, err := r.readBody(p[:min(int64(len(p)), r.end-r.at)])
		r.at += int64(n)
		if r.at-r.since >= resumeAfter {
			r.since, r.resumes = r.at, 0
		}
		if n > 0 || err == nil {
			return n, nil // what is wrong comes up again
		}
		if err := r.resume(err); err != nil {
			return 0, err
		}
	}
}

// readBody reads from the request, and ends it when nothing comes any more.
func (r *reader) readBody(p []byte) (int, error) {
	if r.body == nil {
		return 0, io.ErrUnexpectedEOF
	}
	var stalled atomic.Bool
	timer := time.AfterFunc(store.StalledAfter, func() {
		stalled.Store(true)
		r.cancel()
	})
	n, err := r.body.Read(p)
	timer.Stop()
	if stalled.Load() && err != nil {
		err = errStalled
	}
	return n, err
}

var errStalled = errors.New("no data came for a minute")

// resume replaces the request that ended with why, too early.
func (r *reader) resume(why error) error {
	if errors.Is(why, io.EOF) {
		why = io.ErrUnexpectedEOF
	}
	for {
		if err := store.Ended(r.ctx); err != nil {
			return fmt.Errorf("read %s: %w", r.key, err)
		}
		r.drop()
		if r.resumes == maxResumes || r.version == "" {
			return fmt.Errorf("%w, after byte %d", r.s.failed(r.ctx, "read", r.key, errors.Join(io.ErrUnexpectedEOF, why)), r.at)
		}
		r.s.o.Logger.Debug("a download was cut off and goes on", "store", r.s.o.Name, "key", r.key, "offset", r.at, "error", r.s.explain(why).Text)
		store.Pause(r.ctx, r.resumes)
		r.resumes++
		err := r.s.authorized(r.ctx, func(context.Context) error { return r.open(0) }) //nolint:contextcheck // it has the ctx of Open
		if err == nil {
			return nil
		}
		f := r.s.explain(err)
		switch {
		case store.Ended(r.ctx) != nil:
		case f.Absent, f.Taken, f.Past:
			return pgmedic.Errorf(pgmedic.KindUnreachable, "something else deletes or replaces objects in the store; find out what",
				"read %s: %w: the object was deleted while it was read", r.key, io.ErrUnexpectedEOF)
		case !f.Again:
			return r.s.failed(r.ctx, "read", r.key, err)
		}
		why = err
	}
}

// drop ends the request.
func (r *reader) drop() {
	if r.body == nil {
		return
	}
	r.cancel()
	_ = r.body.Close() // what it brought was used; how it ends is of no interest
	r.body = nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.drop()
	return nil
}
