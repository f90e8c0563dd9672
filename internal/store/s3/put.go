package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// ownerMeta is the metadata by which a Put knows its own object.
const ownerMeta = "pgmedic-put"

// partGrowth is how many parts have which multiple of the part size; together
// they are the 10,000 that S3 allows.
var partGrowth = []struct{ parts, factor int64 }{{1_000, 1}, {1_000, 8}, {8_000, 16}}

// partSize returns the size of part n, which counts from 1, or 0 after the last.
func (o *Options) partSize(n int64) int64 {
	for _, g := range partGrowth {
		if n <= g.parts {
			return g.factor * o.PartSizeBytes
		}
		n -= g.parts
	}
	return 0
}

// upload is one Put.
type upload struct {
	s    *Store
	key  string // as the caller knows it
	name string // in the bucket
	lock store.Lock
	// owner is a random word that only this Put's object has as metadata.
	owner string
	size  int64 // of what was read
	// made is when the server answered, or zero where that is not the time that
	// the object has: one of parts has that of its beginning.
	made time.Time
}

// Put implements store.Store. It answers for what it committed even where ctx ended
// meanwhile: an object that is there is returned without an error.
func (s *Store) Put(ctx context.Context, key string, r io.Reader) (store.Object, error) {
	return s.put(ctx, key, r, store.Lock{})
}

// put is Put of an object with a lock.
func (s *Store) put(ctx context.Context, key string, r io.Reader, lock store.Lock) (store.Object, error) {
	const op = "put"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return store.Object{}, err
	}
	u := &upload{s: s, key: key, name: name, lock: lock, owner: rand.Text()}
	first, last, err := u.fill(ctx, r, s.spare(), s.o.partSize(1))
	switch {
	case err != nil:
	case last:
		err = u.putWhole(ctx, first)
	default:
		err = u.putParts(ctx, r, first)
	}
	if err != nil {
		return store.Object{}, err
	}
	return u.committed(ctx), nil
}

// committed returns the object that was just made. That it exists is known, so
// a request that fails here only costs the server's time.
func (u *upload) committed(ctx context.Context) store.Object {
	if u.made.IsZero() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpWithin)
		defer cancel()
		if o, err := u.s.Stat(ctx, u.key); err == nil {
			return o
		}
		u.made = time.Now()
	}
	return store.Object{Key: u.key, SizeBytes: u.size, ModifiedAt: seconds(u.made)}
}

// fill reads size bytes into buf, which it makes where it is nil and as large as
// it turns out to be needed. last is true if r has ended. It releases buf if r fails.
func (u *upload) fill(ctx context.Context, r io.Reader, buf []byte, size int64) (part []byte, last bool, err error) {
	const least = 64 << 10
	part = slices.Grow(buf[:0], least)
	for int64(len(part)) < size {
		if err := store.Ended(ctx); err != nil {
			u.s.release(part)
			return nil, false, fmt.Errorf("put %s: %w", u.key, err)
		}
		if len(part) == cap(part) {
			part = u.s.grow(part, size)
		}
		free := part[len(part):min(int64(cap(part)), size)]
		n, err := r.Read(free)
		part = part[:len(part)+n]
		u.size += int64(n)
		if err == io.EOF { // itself, as the contract has it
			return part, true, nil
		} else if err != nil {
			u.s.release(part)
			return nil, false, fmt.Errorf("put %s: %w", u.key, store.ReadFailed(ctx, err))
		}
	}
	return part, false, nil
}

// grow returns part with more capacity, and not more than size. What is more than a
// megabyte goes into a buffer of the full size, which others can have later: steps up to
// it would be garbage of more than half of it.
func (s *Store) grow(part []byte, size int64) []byte {
	const small = 1 << 20
	if cap(part) >= small {
		return append(s.buffer(size), part...)
	}
	return append(make([]byte, 0, min(int64(cap(part))*4, size)), part...)
}

// spare returns an empty buffer of a part's usual size that no upload uses, or
// nil. Where many objects follow each other it leaves the garbage collector
// nothing to do.
func (s *Store) spare() []byte {
	select {
	case b := <-s.spares:
		return b[:0]
	default:
		return nil
	}
}

// release takes a buffer that nothing reads any more, once. Each path of a Put ends
// with it: one that does not costs the next Put a new buffer.
func (s *Store) release(b []byte) {
	if int64(cap(b)) != s.o.PartSizeBytes {
		return
	}
	select {
	case s.spares <- b:
	default:
	}
}

// buffer returns an empty one for a part of size bytes.
func (s *Store) buffer(size int64) []byte {
	if size == s.o.PartSizeBytes {
		if b := s.spare(); b != nil {
			return b
		}
	}
	return make([]byte, 0, size)
}

// checksum is what parts are sent with, unless the environment restricts that
// (AWS_REQUEST_CHECKSUM_CALCULATION) for servers that don't know it.
func (s *Store) checksum() types.ChecksumAlgorithm {
	if s.client.Options().RequestChecksumCalculation == aws.RequestChecksumCalculationWhenRequired {
		return ""
	}
	return types.ChecksumAlgorithmCrc32
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// putWhole puts an object of one request.
func (u *upload) putWhole(ctx context.Context, data []byte) error {
	o := &u.s.o
	in := &awss3.PutObjectInput{
		Bucket: &o.Bucket, Key: &u.name, IfNoneMatch: aws.String("*"),
		ContentType: aws.String("application/octet-stream"), Metadata: map[string]string{ownerMeta: u.owner},
		StorageClass:         types.StorageClass(o.StorageClass),
		ServerSideEncryption: types.ServerSideEncryption(o.ServerSideEncryption), SSEKMSKeyId: optional(o.KMSKeyID),
		ChecksumAlgorithm: u.s.checksum(),
	}
	lockPut(in, u.lock)
	for try := 0; ; try++ {
		in.Body = bytes.NewReader(data)
		out, err := u.s.client.PutObject(ctx, in)
		if err == nil {
			u.s.release(data)
			u.made, _ = awsmiddleware.GetServerTime(out.ResultMetadata)
			return nil
		}
		// Of several Puts at once, S3 may ask all but one to try again. versitygw
		// says the other also while a neighbour's folder goes away.
		again := hasCode(err, "ConditionalRequestConflict", "ExistingObjectIsDirectory") && try+1 < o.MaxAttempts
		if !again || !store.Pause(ctx, try) {
			return u.settle(ctx, err)
		}
	}
}

// putParts puts an object of several parts, of which the first was read.
func (u *upload) putParts(ctx context.Context, r io.Reader, first []byte) error {
	// Better said now than after everything was sent.
	if _, err := u.s.Stat(ctx, u.key); !errors.Is(err, store.ErrNotFound) {
		u.s.release(first)
		if err == nil {
			return store.Exists(u.key)
		}
		return fmt.Errorf("put %s: %w", u.key, err)
	}
	o := &u.s.o
	in := &awss3.CreateMultipartUploadInput{
		Bucket: &o.Bucket, Key: &u.name,
		ContentType: aws.String("application/octet-stream"), Metadata: map[string]string{ownerMeta: u.owner},
		StorageClass:         types.StorageClass(o.StorageClass),
		ServerSideEncryption: types.ServerSideEncryption(o.ServerSideEncryption), SSEKMSKeyId: optional(o.KMSKeyID),
		ChecksumAlgorithm: u.s.checksum(),
	}
	lockUpload(in, u.lock)
	// Its answer has the id without which nothing can abort it: an interrupt waits for that.
	patient, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(cleanUpWithin, stop) })()
	created, err := u.s.client.CreateMultipartUpload(patient, in)
	if err != nil {
		u.s.release(first)
		return u.failed(ctx, err)
	}
	m := newMultipart(ctx, u, created.UploadId)
	open := true
	defer func() { // also when r panics
		m.stop(errAbandoned)
		if open {
			_ = m.abort(ctx)
		}
	}()
	if err := m.sendAll(r, first); err != nil {
		m.stop(errAbandoned)
		open = false
		if refusal := m.abort(ctx); m.err != nil && unanswered(ctx, m.err) && isStranger(refusal) {
			return u.failed(ctx, refusal)
		}
		return err
	}
	err = m.complete(ctx)
	open = false
	if err != nil {
		_ = m.abort(ctx) // before looking, so that the object can't appear afterwards
	}
	return u.settle(ctx, err)
}

// unanswered reports whether a request ended without a word of the server. One
// that refuses a large request before it has read it cuts the connection, and
// what it said is often lost with it: the answer to the next, small request then
// is the reason.
func unanswered(ctx context.Context, err error) bool {
	return store.Ended(ctx) == nil && codeOf(err) == ""
}

// settle returns what became of a commit that returned err, which may be that
// the answer was lost while the object was made.
func (u *upload) settle(ctx context.Context, err error) error {
	if err == nil {
		return nil
	} else if isDenied(err) {
		return u.failed(ctx, err)
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpWithin)
	defer cancel()
	there, lookErr := u.s.head(look, u.name)
	taken := isPrecondition(err) || hasCode(err, "ConditionalRequestConflict")
	switch {
	case lookErr == nil && there.Metadata[ownerMeta] == u.owner && aws.ToInt64(there.ContentLength) == u.size:
		return nil
	case (taken || lookErr == nil && unanswered(ctx, err)) && store.Ended(ctx) == nil:
		return store.Exists(u.key)
	}
	return u.failed(ctx, err)
}

// failed returns the error of a request of this Put.
func (u *upload) failed(ctx context.Context, err error) error {
	return u.s.failed(ctx, "put", u.key, err)
}

var errAbandoned = errors.New("the upload was abandoned")

// multipart sends the parts of an upload. Its owner stops it, and then completes
// or aborts it.
type multipart struct {
	u      *upload
	id     *string
	ctx    context.Context // of the parts; it ends with the first that fails
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	slots  chan struct{} // a token for each part on its way

	mu    sync.Mutex
	parts []types.CompletedPart
	err   error // of the first part that failed
	cut   bool  // whether the server may still be busy with one that failed
}

func newMultipart(ctx context.Context, u *upload, id *string) *multipart {
	m := &multipart{u: u, id: id, slots: make(chan struct{}, u.s.o.Concurrency)}
	m.ctx, m.cancel = context.WithCancelCause(ctx)
	return m
}

// sendAll sends first and the rest of r, and returns when all has arrived.
func (m *multipart) sendAll(r io.Reader, first []byte) error {
	part, last := first, false
	for n := int64(1); ; n++ {
		grown := m.u.s.o.partSize(n) > m.u.s.o.PartSizeBytes
		m.send(int32(n), part, grown)
		if last || m.ctx.Err() != nil {
			break
		}
		size := m.u.s.o.partSize(n + 1)
		if size == 0 {
			return m.refuseMore(r)
		}
		var err error
		if part, last, err = m.u.fill(m.ctx, r, m.u.s.buffer(size), size); err != nil {
			m.stop(errAbandoned)
			return m.outcome(err)
		}
		if last && len(part) == 0 {
			m.u.s.release(part) // r ended where the part before did
			break
		}
	}
	m.wg.Wait()
	return m.outcome(nil)
}

// refuseMore returns an error if r has not ended with the last part.
func (m *multipart) refuseMore(r io.Reader) error {
	size := m.u.size
	if _, last, err := m.u.fill(m.ctx, r, nil, 1); err != nil || last && m.u.size == size {
		m.wg.Wait()
		return m.outcome(err)
	}
	return pgmedic.Errorf(pgmedic.KindFailed, "raise backup.s3.part_size_mib",
		"put %s: the object is larger than %d bytes, all that 10,000 growing parts hold", m.u.key, size)
}

// outcome is the error of a part that failed, or else err.
func (m *multipart) outcome(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	return err
}

// send sends a part in the background, when there is a slot for it. A part that
// has grown takes all slots.
func (m *multipart) send(number int32, part []byte, grown bool) {
	take := 1
	if grown {
		take = cap(m.slots)
	}
	for range take {
		m.slots <- struct{}{}
	}
	m.wg.Go(func() {
		defer func() {
			for range take {
				<-m.slots
			}
		}()
		if m.ctx.Err() != nil {
			m.u.s.release(part)
			return
		}
		in := &awss3.UploadPartInput{
			Bucket: &m.u.s.o.Bucket, Key: &m.u.name, UploadId: m.id, PartNumber: &number,
			Body: bytes.NewReader(part), ChecksumAlgorithm: m.u.s.checksum(),
		}
		out, err := m.u.s.client.UploadPart(m.ctx, in)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.cut = m.cut || err != nil
		if err == nil {
			m.u.s.release(part) // after a failure the connection may still read it
			m.parts = append(m.parts, types.CompletedPart{PartNumber: &number, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32})
		} else if m.err == nil && !errors.Is(context.Cause(m.ctx), errAbandoned) {
			m.err = m.u.failed(m.ctx, err)
			m.cancel(m.err)
		}
	})
}

// stop ends all that is on its way and waits for it.
func (m *multipart) stop(why error) {
	m.cancel(why)
	m.wg.Wait()
}

// complete makes the parts an object.
func (m *multipart) complete(ctx context.Context) error {
	slices.SortFunc(m.parts, func(a, b types.CompletedPart) int { return int(*a.PartNumber - *b.PartNumber) })
	_, err := m.u.s.client.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{
		Bucket: &m.u.s.o.Bucket, Key: &m.u.name, UploadId: m.id, IfNoneMatch: aws.String("*"),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: m.parts},
	})
	return err
}

// abort frees the parts. A part that was cut off may arrive after that, and has
// to be freed again. Where it fails the bucket's own rule for incomplete uploads
// has to do it, and the error says why.
func (m *multipart) abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpWithin)
	defer cancel()
	for try := range 5 {
		_, err := m.u.s.client.AbortMultipartUpload(ctx, &awss3.AbortMultipartUploadInput{
			Bucket: &m.u.s.o.Bucket, Key: &m.u.name, UploadId: m.id,
		})
		switch {
		case err != nil && !hasCode(err, "NoSuchUpload", "NotFound", "404"):
			m.u.s.log.Warn("an upload that failed could not be aborted; its parts take space until the bucket's lifecycle rule removes them",
				"store", m.u.s.name, "key", m.u.key, "error", summary(err))
			return err
		case !m.cut || err != nil && try > 0:
			return nil
		}
		store.Pause(ctx, try)
	}
	return nil
}
