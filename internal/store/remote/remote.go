// Package remote makes a store of the few requests that a cloud's object service
// knows: it holds what all such stores have in common, which is the contract of
// store.Store. It retries, resumes downloads, tells its own objects from those of
// others after a lost answer, and never shows an object before it is whole.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// Service is what a Store asks of a cloud. Each method is one request, tried once,
// and its error is the client's own, which Explain sorts. Names are those in the
// bucket or container. Methods are called from several goroutines.
type Service interface {
	// Head returns an object.
	Head(ctx context.Context, name string) (Info, error)
	// Get reads length bytes from offset on, or all that is left where length is
	// negative; length is never 0. Version is empty, or that of the object that it must
	// be. Its Info is of the whole object.
	Get(ctx context.Context, name string, offset, length int64, version string) (Info, io.ReadCloser, error)
	// List returns a page of the objects whose names begin with prefix, in the order of
	// names, or, with folders, of what is between prefix and the next slash. Token is
	// that of the page before, empty for the first.
	List(ctx context.Context, prefix string, folders bool, token string) (Page, error)
	// Delete removes an object; one that is not there is an error for which Explain
	// says Absent.
	Delete(ctx context.Context, name string) error
	// Put makes an object of one request unless there is one, and gives it owner and the
	// lock, which is zero unless the Service is a LockService.
	Put(ctx context.Context, name, owner string, data []byte, l store.Lock) (Info, error)
	// Upload does the same with an object that is too large for one request.
	Upload(ctx context.Context, u *Upload) (Info, error)
	// Confirm returns the reason why a request of name was answered with absent where
	// that was not that the object is absent, or absent itself.
	Confirm(ctx context.Context, name string, absent error) error
	// Leftovers counts what the service still keeps of deleted objects with a prefix.
	Leftovers(ctx context.Context, prefix string) (int, error)
	// Explain sorts an error.
	Explain(err error) Failure
}

// Info is what a service knows of an object.
type Info struct {
	SizeBytes  int64
	ModifiedAt time.Time
	// Version tells this object from another one of the same name.
	Version string
	// Owner is what its Put gave it, or empty.
	Owner string
}

// Page is a part of a listing.
type Page struct {
	Objects []Listed
	// Folders are names that end in a slash.
	Folders []string
	// Next is the token of the next page, or empty.
	Next string
}

// Listed is an object of a listing. One with Skip is none, and only has a place in the
// order.
type Listed struct {
	Name       string
	SizeBytes  int64
	ModifiedAt time.Time
	Skip       bool
}

// Failure is what an error of a service means.
type Failure struct {
	// Absent: there is no such object. Taken: there is one already. Past: the range
	// begins at the end of the object, or behind it.
	Absent, Taken, Past bool
	// Locked: a retention time or a hold keeps the object as it is.
	Locked bool
	// Again: trying again may help. Passes: it does not help at once, but later it may.
	Again, Passes bool
	// Answered: the server said so. Denied: it refused the request as such, so that it
	// did nothing.
	Answered, Denied bool
	// Refused: it refused the credentials, or perhaps those, so that others may help.
	Refused bool
	// Kind, Hint and Text are for people: what kind of error it is, what to do, and what
	// happened, without anything secret.
	Kind pgmedic.Kind
	Hint string
	Text string
}

// Options say how a Store is made of a Service.
type Options struct {
	// Name is the place for people.
	Name string
	// Prefix comes before all keys, with a slash between. Empty is none.
	Prefix string
	// Escape gives the name under which the service keeps a key, or, with partial, what
	// the names of all keys begin with that begin with a prefix. Unescape gives the key.
	// Nil changes nothing.
	Escape   func(key string, partial bool) string
	Unescape func(name string) string
	// PartSizeBytes is how much of an object is held in memory before it is known whether
	// one request does.
	PartSizeBytes int64
	// MaxAttempts is how often a request is tried where that may help.
	MaxAttempts int
	// Credentials are those of the Service where they may be replaced. Nil: they stay.
	Credentials Credentials
	// Client is closed with the store.
	Client *http.Client
	// Notices receives what takes long, Logger the details.
	Notices *store.Notices
	Logger  *slog.Logger
}

// Store is a store.Store of a Service.
type Store struct {
	service Service
	o       Options
	prefix  string // of all names: empty, or ending in a slash
	parts   sync.Pool
}

var _ store.Store = (*Store)(nil)

// DefaultAttempts with their pauses take some fifteen seconds.
const DefaultAttempts = 8

// New returns the store of a service. It sends no request.
func New(service Service, o Options) *Store {
	if o.Escape == nil {
		o.Escape, o.Unescape = func(key string, _ bool) string { return key }, func(name string) string { return name }
	}
	s := &Store{service: service, o: o}
	if o.Prefix != "" {
		s.prefix = o.Prefix + "/"
	}
	return s
}

// String names the place.
func (s *Store) String() string { return s.o.Name }

// Close ends idle connections. No method may be called afterwards.
func (s *Store) Close() error {
	s.o.Client.CloseIdleConnections()
	return nil
}

// Leftovers counts what the service keeps of objects that were deleted and whose keys
// begin with prefix: versions of before, and what can be undeleted.
func (s *Store) Leftovers(ctx context.Context, prefix string) (n int, err error) {
	err = s.try(ctx, "list what was deleted", func(ctx context.Context) error {
		n, err = s.service.Leftovers(ctx, s.o.Escape(s.prefix+prefix, true))
		return err
	})
	if err != nil {
		return 0, s.failed(ctx, "list what was deleted of", prefix, err)
	}
	return n, nil
}

// begin checks what every method checks first, and returns the name of key.
func (s *Store) begin(ctx context.Context, op, key string) (name string, err error) {
	if err := store.CheckKey(key); err != nil {
		return "", fmt.Errorf("%s: %w", op, err)
	}
	if err := store.Ended(ctx); err != nil {
		return "", fmt.Errorf("%s %s: %w", op, key, err)
	}
	if len(s.prefix)+len(key) > store.MaxKeyBytes {
		return "", pgmedic.Errorf(pgmedic.KindUsage, "use a shorter prefix", "%s: with its prefix, key %.100q… is longer than 1024 bytes", op, key)
	}
	return s.o.Escape(s.prefix+key, false), nil
}

// try sends a request until it is answered in a way that counts. What names it for
// people.
func (s *Store) try(ctx context.Context, what string, request func(context.Context) error) error {
	for n := 0; ; n++ {
		err := s.authorized(ctx, request)
		if err == nil || store.Ended(ctx) != nil {
			return err
		}
		f := s.explain(err)
		if !f.Again || n+1 >= s.o.MaxAttempts {
			return err
		}
		s.o.Notices.Retrying("request", what, "attempt", n+1, "of", s.o.MaxAttempts, "error", f.Text)
		if !store.Pause(ctx, n) {
			return err
		}
	}
}

// quick is try for a request whose answer is due at once.
func (s *Store) quick(ctx context.Context, what string, request func(context.Context) error) error {
	return s.try(ctx, what, func(ctx context.Context) error {
		defer s.o.Notices.Watch(what)()
		return request(ctx)
	})
}

// failed returns the error of op on key, which may be empty.
func (s *Store) failed(ctx context.Context, op, key string, err error) error {
	if key != "" {
		op += " " + key
	}
	if cause := store.Ended(ctx); cause != nil {
		return fmt.Errorf("%s: %w", op, cause)
	}
	f := s.explain(err)
	switch {
	case f.Absent:
		return pgmedic.Errorf(pgmedic.KindNotFound, "", "%s: %w", op, store.ErrNotFound)
	case f.Taken:
		return pgmedic.Errorf(pgmedic.KindConflict, "", "%s: %w", op, store.ErrExists)
	case f.Locked:
		return pgmedic.Errorf(f.Kind, f.Hint, "%s: %s: %w: %s", op, s.o.Name, store.ErrLocked, f.Text)
	}
	return &pgmedic.Error{
		Kind: f.Kind, Hint: f.Hint, Temporary: f.Again || f.Passes,
		Err: fmt.Errorf("%s: %s: %w", op, s.o.Name, &brief{text: f.Text, cutOff: errors.Is(err, io.ErrUnexpectedEOF)}),
	}
}

// brief is a client's error in few words. The error itself is not in its chain, since
// its text may hold a signed address.
type brief struct {
	text   string
	cutOff bool
}

func (b *brief) Error() string { return b.text }

func (b *brief) Is(target error) bool { return b.cutOff && target == io.ErrUnexpectedEOF }

// head returns an object, or the error that says why not.
func (s *Store) head(ctx context.Context, name string) (info Info, err error) {
	err = s.quick(ctx, "look at an object", func(ctx context.Context) error {
		info, err = s.service.Head(ctx, name)
		return err
	})
	return info, s.confirm(ctx, name, err)
}

// confirm returns err, or why it does not say that the object is absent.
func (s *Store) confirm(ctx context.Context, name string, err error) error {
	if err == nil || store.Ended(ctx) != nil || !s.explain(err).Absent {
		return err
	}
	var why error
	failed := s.quick(ctx, "look at the bucket", func(ctx context.Context) error {
		why = s.service.Confirm(ctx, name, err)
		if s.explain(why).Again {
			return why
		}
		return nil
	})
	if failed != nil {
		return failed
	}
	return why
}

// Stat implements store.Store.
func (s *Store) Stat(ctx context.Context, key string) (store.Object, error) {
	const op = "stat"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return store.Object{}, err
	}
	info, err := s.head(ctx, name)
	if err != nil {
		return store.Object{}, s.failed(ctx, op, key, err)
	}
	return object(key, info), nil
}

// object is what a store tells of one. Not all requests tell parts of seconds.
func object(key string, info Info) store.Object {
	return store.Object{Key: key, SizeBytes: info.SizeBytes, ModifiedAt: info.ModifiedAt.UTC().Truncate(time.Second)}
}

// Delete implements store.Store. What the service keeps of deleted objects, Leftovers
// tells. Where it refuses because of a lock, the error is store.ErrLocked.
func (s *Store) Delete(ctx context.Context, key string) error {
	const op = "delete"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return err
	}
	err = s.quick(ctx, "delete an object", func(ctx context.Context) error { return s.service.Delete(ctx, name) })
	if err = s.confirm(ctx, name, err); err != nil && (store.Ended(ctx) != nil || !s.explain(err).Absent) {
		return s.failed(ctx, op, key, err)
	}
	return nil
}

// List implements store.Store. It passes over objects of others whose names CheckKey
// refuses.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		if err := store.CheckPrefix(prefix); err != nil {
			yield(store.Object{}, fmt.Errorf("list: %w", err))
			return
		}
		before := ""
		err := s.pages(ctx, prefix, false, func(page Page) (more bool, err error) {
			for _, found := range page.Objects {
				if err := store.Ended(ctx); err != nil {
					return false, fmt.Errorf("list %s: %w", prefix, err)
				}
				if found.Name <= before {
					return false, s.unordered(prefix)
				}
				before = found.Name
				key := strings.TrimPrefix(s.o.Unescape(found.Name), s.prefix)
				if found.Skip || store.CheckKey(key) != nil {
					continue
				}
				if !yield(object(key, Info{SizeBytes: found.SizeBytes, ModifiedAt: found.ModifiedAt}), nil) {
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			yield(store.Object{}, err)
		}
	}
}

// Folders implements store.Store.
func (s *Store) Folders(ctx context.Context, folder string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := store.CheckFolder(folder); err != nil {
			yield("", fmt.Errorf("list: %w", err))
			return
		}
		before := ""
		err := s.pages(ctx, folder, true, func(page Page) (more bool, err error) {
			slices.Sort(page.Folders)
			for _, name := range page.Folders {
				if err := store.Ended(ctx); err != nil {
					return false, fmt.Errorf("list %s: %w", folder, err)
				}
				if name == before {
					continue // it began on the page before
				}
				if name < before {
					return false, s.unordered(folder)
				}
				before = name
				found := strings.TrimPrefix(s.o.Unescape(name), s.prefix)
				if store.CheckFolder(found) == nil && !yield(found, nil) {
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			yield("", err)
		}
	}
}

// pages calls visit for each page of a listing, until that wants no more.
func (s *Store) pages(ctx context.Context, prefix string, folders bool, visit func(Page) (more bool, err error)) error {
	token := ""
	for {
		if err := store.Ended(ctx); err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		var page Page
		err := s.quick(ctx, "list objects", func(ctx context.Context) (err error) {
			page, err = s.service.List(ctx, s.o.Escape(s.prefix+prefix, true), folders, token)
			return err
		})
		if err != nil {
			return s.failed(ctx, "list", prefix, err)
		}
		more, err := visit(page)
		if err != nil || !more || page.Next == "" {
			return err
		}
		token = page.Next
	}
}

// unordered is the error of a listing that is not in the order of names.
func (s *Store) unordered(prefix string) error {
	return pgmedic.Errorf(pgmedic.KindUnreachable, "use another place; at Azure, an account without a hierarchical namespace",
		"list %s: %s lists objects out of order", prefix, s.o.Name)
}
