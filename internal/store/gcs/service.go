package gcs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/api/googleapi"

	"github.com/pgmedic/pgmedic/internal/store/remote"
)

const (
	// ownerMeta is the metadata by which a Put knows its own object.
	ownerMeta = "pgmedic-put"
	// objectFields are what is asked of an object.
	objectFields = "name,size,timeCreated,generation,metadata"
	// pageSize is the most that Google lists in one answer.
	pageSize = 1000
)

// service is a remote.Service of a bucket.
type service struct {
	o   Options
	api *api
}

var _ remote.LockService = (*service)(nil)

// Head implements remote.Service.
func (s *service) Head(ctx context.Context, name string) (remote.Info, error) {
	var o object
	if err := s.api.call(ctx, http.MethodGet, s.api.object(name, url.Values{"fields": {objectFields}}), &o); err != nil {
		return remote.Info{}, err
	}
	return infoOf(&o), nil
}

func infoOf(o *object) remote.Info {
	return remote.Info{
		SizeBytes: o.Size, ModifiedAt: timeOf(o.TimeCreated), Version: strconv.FormatInt(o.Generation, 10), Owner: o.Metadata[ownerMeta],
	}
}

// timeOf is a time as Google writes it, or zero.
func timeOf(text string) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, text)
	return at
}

// errWrongRange is that of an answer with another range than was asked for,
// errNoVersion that of one that doesn't say which object it is of.
var (
	errWrongRange = errors.New("the server gave another range than was asked for")
	errNoVersion  = errors.New("the server doesn't say which generation of the object it gave")
)

// Get implements remote.Service.
func (s *service) Get(ctx context.Context, name string, offset, length int64, version string) (remote.Info, io.ReadCloser, error) {
	query := url.Values{"alt": {"media"}}
	if version != "" {
		query.Set("generation", version)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.api.object(name, query), nil)
	if err != nil {
		return remote.Info{}, nil, err
	}
	r.Header.Set("Accept-Encoding", "identity") // the bytes as they are kept
	switch {
	case length >= 0:
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	answer, err := s.api.send(s.api.client(), r)
	if err != nil {
		return remote.Info{}, nil, err
	}
	info := remote.Info{SizeBytes: answer.ContentLength, Version: answer.Header.Get("X-Goog-Generation")}
	whole, total, ranged := strings.Cut(answer.Header.Get("Content-Range"), "/")
	if n, err := strconv.ParseInt(total, 10, 64); ranged && err == nil {
		info.SizeBytes = n
	}
	switch {
	case info.Version == "" || info.SizeBytes < 0:
		return remote.Info{}, nil, errors.Join(errNoVersion, answer.Body.Close())
	case offset > 0 && info.SizeBytes > 0 && !strings.HasPrefix(whole, fmt.Sprintf("bytes %d-", offset)):
		return remote.Info{}, nil, errors.Join(errWrongRange, answer.Body.Close())
	}
	return info, answer.Body, nil
}

// List implements remote.Service.
func (s *service) List(ctx context.Context, prefix string, folders bool, token string) (remote.Page, error) {
	query := url.Values{"fields": {"items(name,size,timeCreated),nextPageToken"}}
	if folders {
		query = url.Values{"fields": {"prefixes,nextPageToken"}, "delimiter": {"/"}}
	}
	if token != "" {
		query.Set("pageToken", token)
	}
	got, err := s.list(ctx, prefix, pageSize, query)
	if err != nil {
		return remote.Page{}, err
	}
	page := remote.Page{Next: got.NextPageToken, Folders: got.Prefixes}
	for _, o := range got.Items {
		info := infoOf(&o)
		page.Objects = append(page.Objects, remote.Listed{Name: o.Name, SizeBytes: info.SizeBytes, ModifiedAt: info.ModifiedAt})
	}
	return page, nil
}

// list returns up to most objects whose names begin with prefix.
func (s *service) list(ctx context.Context, prefix string, most int, query url.Values) (*listing, error) {
	query.Set("prefix", prefix)
	query.Set("maxResults", strconv.Itoa(most))
	var got listing
	if err := s.api.call(ctx, http.MethodGet, s.api.objects(query), &got); err != nil {
		return nil, ofBucket(err)
	}
	return &got, nil
}

// Delete implements remote.Service.
func (s *service) Delete(ctx context.Context, name string) error {
	return s.api.call(ctx, http.MethodDelete, s.api.object(name, url.Values{}), nil)
}

// Confirm implements remote.Service. The answer about an object of a bucket that is not
// there is the same as that about one which is not in it, and a listing tells them
// apart.
func (s *service) Confirm(ctx context.Context, name string, absent error) error {
	if _, err := s.list(ctx, name, 1, url.Values{"fields": {"nextPageToken"}}); err != nil {
		return err
	}
	return absent
}

// ofBucket returns the error of a request that is about the bucket: what it misses is
// that.
func ofBucket(err error) error {
	var answer *googleapi.Error
	if errors.As(err, &answer) && answer.Code == http.StatusNotFound {
		return errNoBucket
	}
	return err
}

// errNoBucket is that of a bucket which does not exist.
var errNoBucket = errors.New("the bucket does not exist")

// Leftovers implements remote.Service: what soft delete and versions keep.
func (s *service) Leftovers(ctx context.Context, prefix string) (int, error) {
	versions, err := s.list(ctx, prefix, pageSize, url.Values{"versions": {"true"}, "fields": {"items(name,timeDeleted)"}})
	if err != nil {
		return 0, err
	}
	n := 0
	for _, o := range versions.Items {
		if o.TimeDeleted != "" {
			n++
		}
	}
	soft, err := s.list(ctx, prefix, pageSize, url.Values{"softDeleted": {"true"}, "fields": {"items(name,softDeleteTime)"}})
	var answer *googleapi.Error
	if errors.As(err, &answer) && answer.Code == http.StatusBadRequest {
		return n, nil // the bucket keeps nothing in that way
	}
	if err != nil {
		return 0, err
	}
	for _, o := range soft.Items {
		if o.SoftDeleteTime != "" {
			n++
		}
	}
	return n, nil
}
