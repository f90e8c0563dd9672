package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// maxResumes is how often in a row a reader goes on after being cut off;
	// resumeAfter is how many bytes make a new row.
	maxResumes  = 5
	resumeAfter = 8 << 20
)

// Stat implements store.Store.
func (s *Store) Stat(ctx context.Context, key string) (store.Object, error) {
	const op = "stat"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return store.Object{}, err
	}
	there, err := s.head(ctx, name)
	if err != nil {
		return store.Object{}, s.failed(ctx, op, key, err)
	}
	return store.Object{Key: key, SizeBytes: aws.ToInt64(there.ContentLength), ModifiedAt: seconds(aws.ToTime(there.LastModified))}, nil
}

// head asks about an object, and once more where another request shows that it is there: it
// came meanwhile, or that request was sent with new credentials (awsenv.Credentials).
func (s *Store) head(ctx context.Context, name string) (*awss3.HeadObjectOutput, error) {
	ask := &awss3.HeadObjectInput{Bucket: &s.o.Bucket, Key: &name}
	there, err := s.client.HeadObject(ctx, ask)
	if isAbsent(err) {
		if gone := s.confirmAbsent(ctx, name, nil); gone != nil {
			return nil, gone
		}
		there, err = s.client.HeadObject(ctx, ask)
	}
	return there, err
}

// confirmAbsent returns the error that says why name could not be asked about.
// The answer to a HEAD has no room for more than a status, and 404 is that of a
// missing bucket, too, and with some servers of a missing account.
func (s *Store) confirmAbsent(ctx context.Context, name string, absent error) error {
	there, err := s.client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &s.o.Bucket, Key: &name, Range: byteRange(0, 0)})
	switch {
	case err == nil:
		return errors.Join(absent, there.Body.Close()) // it came meanwhile
	case hasCode(err, "InvalidRange"): // likewise, and empty
		return absent
	}
	return err
}

// byteRange is the header that asks for length bytes; a negative length is all that is
// left. It can't ask for none, and then asks for one.
func byteRange(offset, length int64) *string {
	switch {
	case offset == 0 && length < 0:
		return nil
	case length < 0:
		return aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	return aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+max(length, 1)-1))
}

// seconds is a time as every kind of request tells it.
func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// List implements store.Store. It asks for 1,000 objects at once and passes over those
// of others whose names store.CheckKey refuses, such as the "folder/" that some
// programs make.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		if err := store.CheckPrefix(prefix); err != nil {
			yield(store.Object{}, fmt.Errorf("list: %w", err))
			return
		}
		before := ""
		pages := awss3.NewListObjectsV2Paginator(s.client, &awss3.ListObjectsV2Input{Bucket: &s.o.Bucket, Prefix: aws.String(escapeDots(s.prefix + prefix))})
		for pages.HasMorePages() {
			if err := store.Ended(ctx); err != nil {
				yield(store.Object{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(store.Object{}, s.failed(ctx, "list", prefix, err))
				return
			}
			for _, found := range page.Contents {
				if err := store.Ended(ctx); err != nil {
					yield(store.Object{}, fmt.Errorf("list %s: %w", prefix, err))
					return
				}
				name := aws.ToString(found.Key)
				if name <= before {
					yield(store.Object{}, s.unordered(prefix))
					return
				}
				before = name
				key := strings.TrimPrefix(unescapeDots(name), s.prefix)
				if store.CheckKey(key) != nil {
					continue
				}
				if !yield(store.Object{Key: key, SizeBytes: aws.ToInt64(found.Size), ModifiedAt: seconds(aws.ToTime(found.LastModified))}, nil) {
					return
				}
			}
		}
	}
}

// Folders implements store.Store, by a listing with a delimiter.
func (s *Store) Folders(ctx context.Context, folder string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := store.CheckFolder(folder); err != nil {
			yield("", fmt.Errorf("list: %w", err))
			return
		}
		before := ""
		pages := awss3.NewListObjectsV2Paginator(s.client, &awss3.ListObjectsV2Input{
			Bucket: &s.o.Bucket, Prefix: aws.String(escapeDots(s.prefix + folder)), Delimiter: aws.String("/"),
		})
		for pages.HasMorePages() {
			if err := store.Ended(ctx); err != nil {
				yield("", fmt.Errorf("list %s: %w", folder, err))
				return
			}
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield("", s.failed(ctx, "list", folder, err))
				return
			}
			for _, found := range s.foldersOf(page, folder) {
				if err := store.Ended(ctx); err != nil {
					yield("", fmt.Errorf("list %s: %w", folder, err))
					return
				}
				if found == before {
					continue // it began on the page before
				}
				if found < before {
					yield("", s.unordered(folder))
					return
				}
				before = found
				if !yield(found, nil) {
					return
				}
			}
		}
	}
}

// foldersOf returns the folders of one page, in order. An object directly below is of a
// folder, too, if its name has an escaped slash.
func (s *Store) foldersOf(page *awss3.ListObjectsV2Output, folder string) []string {
	var all []string
	add := func(name string) {
		key := strings.TrimPrefix(unescapeDots(name), s.prefix)
		segment, _, below := strings.Cut(strings.TrimPrefix(key, folder), "/")
		if found := folder + segment + "/"; below && store.CheckFolder(found) == nil {
			all = append(all, found)
		}
	}
	for _, p := range page.CommonPrefixes {
		add(aws.ToString(p.Prefix))
	}
	for _, o := range page.Contents {
		add(aws.ToString(o.Key))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// unordered is the error of a listing that is not in the order of names.
func (s *Store) unordered(prefix string) error {
	return pgmedic.Errorf(pgmedic.KindUnreachable, "use another server, or a general purpose bucket: directory buckets list in no order",
		"list %s: %s lists objects out of order", prefix, s.name)
}

// Delete implements store.Store. In a bucket that keeps versions it hides the object,
// whose bytes stay until the bucket's lifecycle rule removes them.
func (s *Store) Delete(ctx context.Context, key string) error {
	const op = "delete"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return err
	}
	_, err = s.client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &s.o.Bucket, Key: &name})
	if isAbsent(err) {
		err = s.confirmAbsent(ctx, name, err)
	}
	if err == nil || isAbsent(err) {
		return nil
	}
	return s.failed(ctx, op, key, err)
}

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
	err = r.open(ctx, length)
	switch {
	case err == nil && length == 0, hasCode(err, "InvalidRange"):
		r.end = r.at // nothing is wanted, or there
		return r, nil
	case err != nil:
		return nil, s.failed(ctx, op, key, err)
	}
	return r, nil
}

// reader reads a range of an object, with as many requests as it takes.
type reader struct {
	ctx       context.Context // of Open, whose contract says that it governs this
	s         *Store
	key, name string

	body   io.ReadCloser
	cancel context.CancelFunc // of body's request
	// stalled runs during reads and ends body's request if one takes too long.
	stalled *stallTimer
	etag    string // of the object that was opened
	at      int64  // of the next byte
	end     int64  // behind the last byte

	resumes int   // since the offset
	since   int64 // where the last row of them began
}

// open sends a request for what is left, or the first one, for length bytes.
func (r *reader) open(ctx context.Context, length int64) error {
	first := r.etag == ""
	if !first {
		length = r.end - r.at
	}
	ctx, cancel := context.WithCancel(ctx)
	in := &awss3.GetObjectInput{Bucket: &r.s.o.Bucket, Key: &r.name, Range: byteRange(r.at, length)}
	if !first {
		in.IfMatch = &r.etag // the object may have become another
	}
	out, err := r.s.client.GetObject(ctx, in)
	if err != nil {
		cancel()
		return err
	}
	if r.at > 0 && !strings.HasPrefix(aws.ToString(out.ContentRange), fmt.Sprintf("bytes %d-", r.at)) {
		cancel()
		return errors.Join(errWrongRange, out.Body.Close())
	}
	if first {
		r.etag = aws.ToString(out.ETag)
		r.end = max(r.at, sizeOf(out))
		if length >= 0 {
			r.end = min(r.end, r.at+length)
		}
		r.since = r.at
	}
	r.body, r.cancel, r.stalled = out.Body, cancel, newStallTimer(cancel)
	return nil
}

// stallTimer ends a request. One for each read would be most of what small reads allocate.
type stallTimer struct {
	*time.Timer
	fired atomic.Bool
}

// newStallTimer returns one that does not run.
func newStallTimer(cancel context.CancelFunc) *stallTimer {
	s := &stallTimer{}
	s.Timer = time.AfterFunc(store.StalledAfter, func() {
		s.fired.Store(true)
		cancel()
	})
	s.Stop()
	return s
}

// sizeOf returns the size of the whole object of which a server sent a part.
func sizeOf(out *awss3.GetObjectOutput) int64 {
	if _, total, ok := strings.Cut(aws.ToString(out.ContentRange), "/"); ok {
		if n, err := strconv.ParseInt(total, 10, 64); err == nil {
			return n
		}
	}
	return aws.ToInt64(out.ContentLength)
}

var errWrongRange = errors.New("the server gave another range than was asked for")

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
	r.stalled.Reset(store.StalledAfter)
	n, err := r.body.Read(p)
	r.stalled.Stop()
	if r.stalled.fired.Load() && err != nil {
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
		if r.resumes == maxResumes || r.etag == "" {
			return fmt.Errorf("%w, after byte %d", r.s.failed(r.ctx, "read", r.key, cutOff(why)), r.at)
		}
		r.s.log.Debug("a download was cut off and goes on", "store", r.s.name, "key", r.key, "offset", r.at, "error", summary(why))
		store.Pause(r.ctx, r.resumes)
		r.resumes++
		err := r.open(r.ctx, 0)
		if err == nil {
			return nil
		}
		if isFinal(err) {
			return r.s.readFailed(r.ctx, r.key, err)
		}
		why = err
	}
}

// readFailed is failed for an object that was opened and can't be read on.
func (s *Store) readFailed(ctx context.Context, key string, err error) error {
	if isPrecondition(err) || isAbsent(err) {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "something else deletes or replaces objects in the store; find out what",
			"read %s: %w: the object was deleted while it was read", key, io.ErrUnexpectedEOF)
	}
	return s.failed(ctx, "read", key, err)
}

// cutOff returns err so that io.ErrUnexpectedEOF is found in it.
func cutOff(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
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
