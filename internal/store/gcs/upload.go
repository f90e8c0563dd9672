package gcs

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/api/googleapi"

	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/remote"
)

const (
	contentType = "application/octet-stream"
	jsonType    = "application/json; charset=UTF-8"
	// hashHeader is the header by which Google compares the sum of a whole upload.
	hashHeader = "X-Goog-Hash"
)

// checksum writes a CRC32C as Google does.
func checksum(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

func castagnoli(sum uint32, data []byte) uint32 {
	return crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), data)
}

// insertion is the query of a request that makes an object where there is none.
func insertion(kind string) url.Values {
	return url.Values{"uploadType": {kind}, "ifGenerationMatch": {"0"}, "fields": {objectFields}}
}

// described returns the metadata that Google receives for a new object.
func (s *service) described(name, owner string, l store.Lock) object {
	return object{
		Name: name, Metadata: map[string]string{ownerMeta: owner}, ContentType: contentType, StorageClass: s.o.StorageClass,
		Retention: retentionOf(l), TemporaryHold: l.Held,
	}
}

// Put implements remote.Service: metadata and content go in one request.
func (s *service) Put(ctx context.Context, name, owner string, data []byte, l store.Lock) (remote.Info, error) {
	described := s.described(name, owner, l)
	described.Crc32c = checksum(castagnoli(0, data))
	metadata, err := json.Marshal(described)
	if err != nil {
		return remote.Info{}, err
	}
	var frame bytes.Buffer
	parts := multipart.NewWriter(&frame)
	_, err = parts.CreatePart(textproto.MIMEHeader{"Content-Type": {jsonType}})
	frame.Write(metadata)
	if err == nil {
		_, err = parts.CreatePart(textproto.MIMEHeader{"Content-Type": {contentType}})
	}
	before := frame.Len()
	if err == nil {
		err = parts.Close()
	}
	if err != nil { // a buffer takes everything
		return remote.Info{}, err
	}
	body := func() (io.ReadCloser, error) {
		text := frame.Bytes()
		return io.NopCloser(io.MultiReader(bytes.NewReader(text[:before]), bytes.NewReader(data), bytes.NewReader(text[before:]))), nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.api.upload(insertion("multipart")), nil)
	if err != nil {
		return remote.Info{}, err
	}
	r.Body, _ = body() // without an error, as one sees
	r.GetBody, r.ContentLength = body, int64(frame.Len()+len(data))
	r.Header.Set("Content-Type", "multipart/related; boundary="+parts.Boundary())
	var made object
	if _, _, err := s.api.ask(s.api.client(), r, &made); err != nil {
		return remote.Info{}, ofBucket(err)
	}
	return infoOf(&made), nil
}

// session is a resumable upload (https://docs.cloud.google.com/storage/docs/resumable-uploads).
// No object is there before its last request, which says how long the object is and
// brings its sum.
type session struct {
	s       *service
	u       *remote.Upload
	address string // a secret: anyone who has it can continue the upload
	// client returns the client for one request.
	client func() *http.Client
}

// begin starts the upload of an object where there is none.
func (s *service) begin(ctx context.Context, u *remote.Upload) (*session, error) {
	metadata, err := json.Marshal(s.described(u.Name, u.Owner, u.Lock))
	if err != nil {
		return nil, err
	}
	t := &session{s: s, u: u}
	return t, u.Try(ctx, "begin an upload", func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.api.upload(insertion("resumable")), bytes.NewReader(metadata))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", jsonType)
		r.Header.Set("X-Upload-Content-Type", contentType)
		_, header, err := s.api.ask(s.api.client(), r, nil)
		if err != nil {
			return ofBucket(err)
		}
		t.address = header.Get("Location")
		if u, err := url.Parse(t.address); err != nil || u.Host == "" {
			return errNotGoogle
		}
		// The address itself is the permission, so another host gets no token.
		t.client = func() *http.Client { return s.api.plain }
		if s.api.sameHost(t.address) {
			t.client = s.api.client
		}
		return nil
	})
}

// Upload implements remote.Service. While a part is sent, the next one is read.
func (s *service) Upload(ctx context.Context, u *remote.Upload) (remote.Info, error) {
	t, err := s.begin(ctx, u)
	if err != nil {
		return remote.Info{}, err
	}
	part, offset := u.First, int64(0)
	sum := castagnoli(0, part)
	for last := false; !last; {
		var next []byte
		if next, last, err = t.sendAndRead(ctx, part, offset); err != nil {
			return remote.Info{}, err
		}
		offset += int64(len(part))
		u.Release(part)
		part, sum = next, castagnoli(sum, next)
	}
	made, err := t.send(ctx, part, offset, offset+int64(len(part)), sum)
	if err != nil {
		return remote.Info{}, err
	}
	u.Release(part)
	return infoOf(made), nil
}

// sendAndRead sends a part that is not the last one, and reads the next one.
func (t *session) sendAndRead(ctx context.Context, part []byte, offset int64) (next []byte, last bool, err error) {
	both, stop := context.WithCancelCause(ctx)
	var sending sync.WaitGroup
	defer sending.Wait() // also when the source panics
	defer stop(nil)
	var sendErr error
	sending.Go(func() {
		if _, sendErr = t.send(both, part, offset, unknownTotal, 0); sendErr != nil {
			stop(sendErr)
		}
	})
	next, last, err = t.u.Fill(both, t.s.o.PartSizeBytes)
	if err != nil {
		stop(err)
	}
	sending.Wait()
	if err == nil || errors.Is(err, sendErr) && sendErr != nil {
		err = sendErr
	}
	return next, last, err
}

// unknownTotal is the length of an object of which more parts follow.
const unknownTotal = -1

// send sends the part that begins at offset. With a total it is the last one, sum is
// that of the whole object, and the object is returned.
func (t *session) send(ctx context.Context, part []byte, offset, total int64, sum uint32) (made *object, err error) {
	end := offset + int64(len(part))
	for {
		var kept int64
		err := t.u.Try(ctx, "send a part", func(ctx context.Context) (err error) {
			made, kept, err = t.request(ctx, part, offset, total, sum)
			if done := made != nil || kept == end && total == unknownTotal; err == nil && !done && kept == offset {
				err = errKeptNothing // as often as any request that may succeed later
			}
			return err
		})
		switch {
		case err != nil || made != nil:
			return made, err
		case kept == end && total == unknownTotal:
			return nil, nil
		case kept <= offset || kept > end:
			return nil, errOutOfStep
		}
		part, offset = part[kept-offset:], kept // what Google did not keep is sent again
	}
}

// request sends a part once. It returns the object, or how much of it Google has kept.
// Bytes that Google has already it passes over.
func (t *session) request(ctx context.Context, part []byte, offset, total int64, sum uint32) (made *object, kept int64, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, t.address, bytes.NewReader(part))
	if err != nil {
		return nil, 0, errNotGoogle // the error would quote the address
	}
	length := "*"
	if total != unknownTotal {
		length = strconv.FormatInt(total, 10)
		r.Header.Set(hashHeader, "crc32c="+checksum(sum))
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Content-Range", "bytes */"+length)
	if len(part) > 0 {
		r.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%s", offset, offset+int64(len(part))-1, length))
	}
	var there object
	status, header, err := t.s.api.ask(t.client(), r, &there)
	var refused *googleapi.Error
	switch {
	case errors.As(err, &refused) && (refused.Code == http.StatusNotFound || refused.Code == http.StatusGone):
		return nil, 0, errUploadGone
	case err != nil:
		return nil, 0, err
	case status == http.StatusPermanentRedirect:
		through, ok := strings.CutPrefix(header.Get("Range"), "bytes=0-")
		if n, err := strconv.ParseInt(through, 10, 64); ok && err == nil {
			kept = n + 1
		}
		return nil, kept, nil
	case total == unknownTotal || there.Size != total:
		return nil, 0, errOutOfStep
	}
	return &there, 0, nil
}

// errKeptNothing is that of an answer by which Google asks for the same part again.
var errKeptNothing = errors.New("the server kept nothing of a part of the upload")

// errOutOfStep is that of an upload of which Google has something else than was sent,
// errUploadGone that of one which Google no longer knows.
var (
	errOutOfStep  = errors.New("the server has lost a part of the upload, or ended it too early")
	errUploadGone = errors.New("the server no longer knows of the upload")
)
