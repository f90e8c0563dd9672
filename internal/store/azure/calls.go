package azure

import (
	"context"
	"io"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// calls are the requests that a store makes, and not the SDK's client: in a type that
// reflection can reach, the linker keeps all methods of the client and of what it makes, page
// and append blobs, leases and batches among them.
type calls struct {
	properties func(context.Context) (container.GetPropertiesResponse, error)
	flat       func(*container.ListBlobsFlatOptions) *runtime.Pager[container.ListBlobsFlatResponse]
	hierarchy  func(*container.ListBlobsHierarchyOptions) *runtime.Pager[container.ListBlobsHierarchyResponse]

	head     func(ctx context.Context, name string) (blob.GetPropertiesResponse, error)
	download func(ctx context.Context, name string, o *blob.DownloadStreamOptions) (blob.DownloadResponse, error)
	remove   func(ctx context.Context, name string) error
	policy   func(ctx context.Context, name string, until time.Time, o *blob.SetImmutabilityPolicyOptions) (blob.SetImmutabilityPolicyResponse, error)
	hold     func(ctx context.Context, name string, held bool) error

	upload func(ctx context.Context, name string, data io.ReadSeekCloser, o *blockblob.UploadOptions) (blockblob.UploadResponse, error)
	stage  func(ctx context.Context, name, id string, data io.ReadSeekCloser, o *blockblob.StageBlockOptions) error
	commit func(ctx context.Context, name string, ids []string, o *blockblob.CommitBlockListOptions) (blockblob.CommitBlockListResponse, error)
}

// callsOf are those of a client.
func callsOf(c *container.Client) calls {
	return calls{
		properties: func(ctx context.Context) (container.GetPropertiesResponse, error) { return c.GetProperties(ctx, nil) },
		flat:       c.NewListBlobsFlatPager,
		hierarchy: func(o *container.ListBlobsHierarchyOptions) *runtime.Pager[container.ListBlobsHierarchyResponse] {
			return c.NewListBlobsHierarchyPager("/", o)
		},
		head: func(ctx context.Context, name string) (blob.GetPropertiesResponse, error) {
			return c.NewBlobClient(name).GetProperties(ctx, nil)
		},
		download: func(ctx context.Context, name string, o *blob.DownloadStreamOptions) (blob.DownloadResponse, error) {
			got, err := c.NewBlobClient(name).DownloadStream(ctx, o)
			return got.DownloadResponse, err
		},
		remove: func(ctx context.Context, name string) error {
			_, err := c.NewBlobClient(name).Delete(ctx, nil)
			return err
		},
		policy: func(ctx context.Context, name string, until time.Time, o *blob.SetImmutabilityPolicyOptions) (blob.SetImmutabilityPolicyResponse, error) {
			return c.NewBlobClient(name).SetImmutabilityPolicy(ctx, until, o)
		},
		hold: func(ctx context.Context, name string, held bool) error {
			_, err := c.NewBlobClient(name).SetLegalHold(ctx, held, nil)
			return err
		},
		upload: func(ctx context.Context, name string, data io.ReadSeekCloser, o *blockblob.UploadOptions) (blockblob.UploadResponse, error) {
			return c.NewBlockBlobClient(name).Upload(ctx, data, o)
		},
		stage: func(ctx context.Context, name, id string, data io.ReadSeekCloser, o *blockblob.StageBlockOptions) error {
			_, err := c.NewBlockBlobClient(name).StageBlock(ctx, id, data, o)
			return err
		},
		commit: func(ctx context.Context, name string, ids []string, o *blockblob.CommitBlockListOptions) (blockblob.CommitBlockListResponse, error) {
			return c.NewBlockBlobClient(name).CommitBlockList(ctx, ids, o)
		},
	}
}
