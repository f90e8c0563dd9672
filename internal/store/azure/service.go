package azure

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/pgmedic/pgmedic/internal/rotation"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/remote"
)

const (
	// ownerMeta is the metadata by which a Put knows its own object. Its name is an
	// identifier of C#, as Azure has it.
	ownerMeta = "pgmedicput"
	// folderMeta marks what stands for a folder in an account with a hierarchical
	// namespace.
	folderMeta = "hdi_isfolder"
	// crcPolynomial is that of the sums that Azure checks, from its documentation of
	// x-ms-content-crc64.
	crcPolynomial = 0x9A6C9329AC4BC9B5
)

// service is a remote.Service of a container.
type service struct {
	o      Options
	logins *rotation.Credential[login]
	crc    *crc64.Table
	growth growth
}

var _ remote.LockService = (*service)(nil)

// calls are for one request: its credentials may be replaced by the next.
func (s *service) calls() calls {
	l, _ := s.logins.Current()
	return l.calls
}

// expired returns when the shared access signature ended, if it did.
func (s *service) expired() (at time.Time, is bool) {
	l, _ := s.logins.Current()
	return l.expires, !l.expires.IsZero() && time.Now().After(l.expires)
}

// errFolder is that of a blob that stands for a folder.
var errFolder = errors.New("the blob stands for a folder")

// Head implements remote.Service.
func (s *service) Head(ctx context.Context, name string) (remote.Info, error) {
	got, err := s.calls().head(ctx, name)
	if err != nil {
		return remote.Info{}, err
	}
	if meta(got.Metadata, folderMeta) == "true" {
		return remote.Info{}, errFolder
	}
	return infoOf(value(got.ContentLength), got.LastModified, got.ETag, got.Metadata), nil
}

func infoOf(size int64, modified *time.Time, etag *azcore.ETag, metadata map[string]*string) remote.Info {
	return remote.Info{SizeBytes: size, ModifiedAt: value(modified), Version: string(value(etag)), Owner: meta(metadata, ownerMeta)}
}

// value is what p points to, or zero.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// meta returns a value of metadata, whose names come back in any case.
func meta(all map[string]*string, name string) string {
	for n, v := range all {
		if strings.EqualFold(n, name) {
			return value(v)
		}
	}
	return ""
}

// errWrongRange is that of an answer with another range than was asked for.
var errWrongRange = errors.New("the server gave another range than was asked for")

// Get implements remote.Service.
func (s *service) Get(ctx context.Context, name string, offset, length int64, version string) (remote.Info, io.ReadCloser, error) {
	o := &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: offset, Count: max(length, 0)}}
	if version != "" {
		o.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(version))}}
	}
	got, err := s.calls().download(ctx, name, o)
	if err != nil {
		return remote.Info{}, nil, err
	}
	if meta(got.Metadata, folderMeta) == "true" {
		return remote.Info{}, nil, errors.Join(errFolder, got.Body.Close())
	}
	size := value(got.ContentLength)
	whole, total, ranged := strings.Cut(value(got.ContentRange), "/")
	if n, err := strconv.ParseInt(total, 10, 64); ranged && err == nil {
		size = n
	}
	if offset > 0 && size > 0 && !strings.HasPrefix(whole, fmt.Sprintf("bytes %d-", offset)) {
		return remote.Info{}, nil, errors.Join(errWrongRange, got.Body.Close())
	}
	return infoOf(size, got.LastModified, got.ETag, got.Metadata), got.Body, nil
}

// List implements remote.Service.
func (s *service) List(ctx context.Context, prefix string, folders bool, token string) (remote.Page, error) {
	if folders {
		return s.listFolders(ctx, prefix, token)
	}
	got, err := s.calls().flat(&container.ListBlobsFlatOptions{
		Prefix: &prefix, Marker: optional(token), Include: container.ListBlobsInclude{Metadata: true},
	}).NextPage(ctx)
	if err != nil {
		return remote.Page{}, err
	}
	page := remote.Page{Next: value(got.NextMarker)}
	if got.Segment == nil {
		return page, nil
	}
	for _, item := range got.Segment.BlobItems {
		listed := remote.Listed{Name: value(item.Name), Skip: meta(item.Metadata, folderMeta) == "true"}
		if p := item.Properties; p != nil {
			listed.SizeBytes, listed.ModifiedAt = value(p.ContentLength), value(p.LastModified)
		}
		page.Objects = append(page.Objects, listed)
	}
	return page, nil
}

func (s *service) listFolders(ctx context.Context, prefix, token string) (remote.Page, error) {
	got, err := s.calls().hierarchy(&container.ListBlobsHierarchyOptions{
		Prefix: &prefix, Marker: optional(token),
	}).NextPage(ctx)
	if err != nil {
		return remote.Page{}, err
	}
	page := remote.Page{Next: value(got.NextMarker)}
	if got.Segment != nil {
		for _, folder := range got.Segment.BlobPrefixes {
			page.Folders = append(page.Folders, value(folder.Name))
		}
	}
	return page, nil
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// Delete implements remote.Service.
func (s *service) Delete(ctx context.Context, name string) error {
	return s.calls().remove(ctx, name)
}

// Confirm implements remote.Service. Azure has a code for each.
func (s *service) Confirm(_ context.Context, _ string, absent error) error { return absent }

// maxLeftovers is how many leftovers are counted at most.
const maxLeftovers = 1000

// Leftovers implements remote.Service: what soft delete, versions and snapshots keep.
func (s *service) Leftovers(ctx context.Context, prefix string) (int, error) {
	pages := s.calls().flat(&container.ListBlobsFlatOptions{
		Prefix: &prefix, Include: container.ListBlobsInclude{Deleted: true, Versions: true, Snapshots: true},
	})
	n := 0
	for pages.More() && n < maxLeftovers {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return 0, err
		}
		if page.Segment == nil {
			continue
		}
		for _, item := range page.Segment.BlobItems {
			if value(item.Deleted) || value(item.Snapshot) != "" || value(item.VersionID) != "" && !value(item.IsCurrentVersion) {
				n++
			}
		}
	}
	return n, nil
}

// absentOnly is the condition that there is no such object.
func absentOnly() *blob.AccessConditions {
	return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}}
}

func (s *service) tier() *blob.AccessTier {
	if s.o.AccessTier == "" {
		return nil
	}
	return to.Ptr(blob.AccessTier(s.o.AccessTier))
}

// sum is what Azure checks the bytes of a request by.
func (s *service) sum(data []byte) blob.TransferValidationType {
	return blob.TransferValidationTypeCRC64(crc64.Checksum(data, s.crc))
}

func body(data []byte) io.ReadSeekCloser { return streaming.NopCloser(bytes.NewReader(data)) }

func headers() *blob.HTTPHeaders {
	return &blob.HTTPHeaders{BlobContentType: to.Ptr("application/octet-stream")}
}

// Put implements remote.Service. Where blocks of a Put that failed are left under the
// name, a server may say that it is taken, though nothing is there; then the object is
// made of a block, too.
func (s *service) Put(ctx context.Context, name, owner string, data []byte, l store.Lock) (remote.Info, error) {
	got, err := s.calls().upload(ctx, name, body(data), &blockblob.UploadOptions{
		AccessConditions: absentOnly(), Metadata: map[string]*string{ownerMeta: &owner}, Tier: s.tier(),
		HTTPHeaders: headers(), TransactionalValidation: s.sum(data),
		ImmutabilityPolicyMode: policyMode(l), ImmutabilityPolicyExpiryTime: policyExpiry(l), LegalHold: legalHold(l),
	})
	if err == nil {
		return remote.Info{ModifiedAt: value(got.LastModified), Owner: owner}, nil
	}
	if !s.Explain(err).Taken {
		return remote.Info{}, err
	}
	if _, headErr := s.Head(ctx, name); headErr == nil || !s.Explain(headErr).Absent {
		return remote.Info{}, err
	}
	var ids []string
	if len(data) > 0 {
		ids = []string{blockID(owner, 1)}
		if err := s.stage(ctx, name, ids[0], data); err != nil {
			return remote.Info{}, err
		}
	}
	return s.commit(ctx, name, owner, ids, l)
}

// blockID names a block after its Put, so that those of several Puts of one name don't
// mix. All have the same length, as Azure wants it.
func blockID(owner string, n int64) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s%05d", owner, n))
}

func (s *service) stage(ctx context.Context, name, id string, data []byte) error {
	return s.calls().stage(ctx, name, id, body(data), &blockblob.StageBlockOptions{TransactionalValidation: s.sum(data)})
}

// commit makes an object of blocks, unless there is one.
func (s *service) commit(ctx context.Context, name, owner string, ids []string, l store.Lock) (remote.Info, error) {
	got, err := s.calls().commit(ctx, name, ids, &blockblob.CommitBlockListOptions{
		AccessConditions: absentOnly(), Metadata: map[string]*string{ownerMeta: &owner}, Tier: s.tier(), HTTPHeaders: headers(),
		ImmutabilityPolicyMode: policyMode(l), ImmutabilityPolicyExpiryTime: policyExpiry(l), LegalHold: legalHold(l),
	})
	if err != nil {
		return remote.Info{}, err
	}
	return remote.Info{ModifiedAt: value(got.LastModified), Owner: owner}, nil
}
