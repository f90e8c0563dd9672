package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/pgmedic/pgmedic"
)

const (
	// maxResumes is how often in a row a reader goes on after being cut off;
	// resumeAfter is how many bytes make a new row.
	maxResumes  = 5
	resumeAfter = 8 << 20
)

// Stat implements Store.
func (s *S3) Stat(ctx context.Context, key string) (Object, error) {
	const op = "stat"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return Object{}, err
	}
	there, err := s.head(ctx, name)
	if err != nil {
		return Object{}, s.failed(ctx, op, key, err)
	}
	return Object{Key: key, SizeBytes: aws.ToInt64(there.ContentLength), ModifiedAt: seconds(aws.ToTime(there.LastModified))}, nil
}

// head asks about an object, and once more where another request shows that it is there: it
// came meanwhile, or that request was sent with new credentials (awsenv.Credentials).
func (s *S3) head(ctx context.Context, name string) (*s3.HeadObjectOutput, error) {
	ask := &s3.HeadObjectInput{Bucket: &s.o.Bucket, Key: &name}
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
func (s *S3) confirmAbsent(ctx context.Context, name string, absent error) error {
	there, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.o.Bucket, Key: &name, Range: byteRange(0, 0)})
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

// List implements Store. It asks for 1,000 objects at once and passes over those
// of others whose names CheckKey refuses, such as the "folder/" that some
// programs make.
func (s *S3) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := CheckPrefix(prefix); err != nil {
			yield(Object{}, fmt.Errorf("list: %w", err))
			return
		}
		before := ""
		pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.o.Bucket, Prefix: aws.String(escapeDots(s.prefix + prefix))})
		for pages.HasMorePages() {
			if err := Ended(ctx); err != nil {
				yield(Object{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Object{}, s.failed(ctx, "list", prefix, err))
				return
			}
			for _, found := range page.Contents {
				if err := Ended(ctx); err != nil {
					yield(Object{}, fmt.Errorf("list %s: %w", prefix, err))
					return
				}
				name := aws.ToString(found.Key)
				if name <= before {
					yield(Object{}, s.unordered(prefix))
					return
				}
				before = name
				key := strings.TrimPrefix(unescapeDots(name), s.prefix)
				if CheckKey(key) != nil {
					continue
				}
				if !yield(Object{Key: key, SizeBytes: aws.ToInt64(found.Size), ModifiedAt: seconds(aws.ToTime(found.LastModified))}, nil) {
					return
				}
			}
		}
	}
}

// Folders implements Store, by a listing with a delimiter.
func (s *S3) Folders(ctx context.Context, folder string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := CheckFolder(folder); err != nil {
			yield("", fmt.Errorf("list: %w", err))
			return
		}
		before := ""
		pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{
			Bucket: &s.o.Bucket, Prefix: aws.String(escapeDots(s.prefix + folder)), Delimiter: aws.String("/"),
		})
		for pages.HasMorePages() {
			if err := Ended(ctx); err != nil {
				yield("", fmt.Errorf("list %s: %w", folder, err))
				return
			}
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield("", s.failed(ctx, "list", folder, err))
				return
			}
			for _, found := range s.foldersOf(page, folder) {
				if err := Ended(ctx); err != nil {
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
func (s *S3) foldersOf(page *s3.ListObjectsV2Output, folder string) []string {
	var all []string
	add := func(name string) {
		key := strings.TrimPrefix(unescapeDots(name), s.prefix)
		segment, _, below := strings.Cut(strings.TrimPrefix(key, folder), "/")
		if found := folder + segment + "/"; below && CheckFolder(found) == nil {
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
func (s *S3) unordered(prefix string) error {
	return pgmedic.Errorf(pgmedic.KindUnreachable, "use another server, or a general purpose bucket: directory buckets list in no order",
		"list %s: %s lists objects out of order", prefix, s.name)
}

// Delete implements Store. In a bucket that keeps versions it hides the object,
// whose bytes stay until the bucket's lifecycle rule removes them.
func (s *S3) Delete(ctx context.Context, key string) error {
	const op = "delete"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return err
	}
	_, err = s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.o.Bucket, Key: &name})
	if isAbsent(err) {
		err = s.confirmAbsent(ctx, name, err)
	}
	if err == nil || isAbsent(err) {
		return nil
	}
	return s.failed(ctx, op, key, err)
}

// Open implements Store.
func (s *S3) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
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
	r := &s3Reader{ctx: ctx, s: s, key: key, name: name, at: offset}
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

// s3Reader reads a range of an object, with as many requests as it takes.
type s3Reader struct {
	ctx       context.Context // of Open, whose contract says that it governs this
	s         *S3
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
func (r *s3Reader) open(ctx context.Context, length int64) error {
	first := r.etag == ""
	if !first {
		length = r.end - r.at
	}
	ctx, cancel := context.WithCancel(ctx)
	in := &s3.GetObjectInput{Bucket: &r.s.o.Bucket, Key: &r.name, Range: byteRange(r.at, length)}
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
	s.Timer = time.AfterFunc(stalledAfter, func() {
		s.fired.Store(true)
		cancel()
	})
	s.Stop()
	return s
}

// sizeOf returns the size of the whole object of which a server sent a part.
func sizeOf(out *s3.GetObjectOutput) int64 {
	if _, total, ok := strings.Cut(aws.ToString(out.ContentRange), "/"); ok {
		if n, err := strconv.ParseInt(total, 10, 64); err == nil {
			return n
		}
	}
	return aws.ToInt64(out.ContentLength)
}

var errWrongRange = errors.New("the server gave another range than was asked for")

// Read implements io.Reader.
func (r *s3Reader) Read(p []byte) (int, error) {
	for {
		if err := Ended(r.ctx); err != nil {
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
func (r *s3Reader) readBody(p []byte) (int, error) {
	if r.body == nil {
		return 0, io.ErrUnexpectedEOF
	}
	r.stalled.Reset(stalledAfter)
	n, err := r.body.Read(p)
	r.stalled.Stop()
	if r.stalled.fired.Load() && err != nil {
		err = errStalled
	}
	return n, err
}

var errStalled = errors.New("no data came for a minute")

// resume replaces the request that ended with why, too early.
func (r *s3Reader) resume(why error) error {
	if errors.Is(why, io.EOF) {
		why = io.ErrUnexpectedEOF
	}
	for {
		if err := Ended(r.ctx); err != nil {
			return fmt.Errorf("read %s: %w", r.key, err)
		}
		r.drop()
		if r.resumes == maxResumes || r.etag == "" {
			return fmt.Errorf("%w, after byte %d", r.s.failed(r.ctx, "read", r.key, cutOff(why)), r.at)
		}
		r.s.log.Debug("a download was cut off and goes on", "store", r.s.name, "key", r.key, "offset", r.at, "error", summary(why))
		Pause(r.ctx, r.resumes)
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
func (s *S3) readFailed(ctx context.Context, key string, err error) error {
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
func (r *s3Reader) drop() {
	if r.body == nil {
		return
	}
	r.cancel()
	_ = r.body.Close() // what it brought was used; how it ends is of no interest
	r.body = nil
}

// Close implements io.Closer.
func (r *s3Reader) Close() error {
	r.drop()
	return nil
}

// jitter returns a time below d.
func jitter(d time.Duration) time.Duration { return rand.N(d + 1) }
