package s3

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"

	"github.com/pgmedic/pgmedic/internal/store"
)

// retryer is a Retryer that says what failed when a request is tried again.
type retryer struct {
	aws.RetryerV2
	waiting *store.Notices
}

func (r retryer) RetryDelay(attempt int, err error) (time.Duration, error) {
	delay, delayErr := r.RetryerV2.RetryDelay(attempt, err)
	if delayErr == nil {
		r.waiting.Retrying("attempt", attempt, "of", r.MaxAttempts(), "error", summary(err))
	}
	return delay, delayErr
}

// uploads are the requests that take long because they send much.
var uploads = map[string]bool{"PutObject": true, "UploadPart": true, "CompleteMultipartUpload": true, "UploadPartCopy": true, "CopyObject": true}

// watchRequests has notices watch each attempt of a request whose answer is due at once.
func watchRequests(n *store.Notices) func(*middleware.Stack) error {
	watch := middleware.FinalizeMiddlewareFunc("pgmedicWaiting",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			if name := awsmiddleware.GetOperationName(ctx); !uploads[name] {
				defer n.Watch(name)()
			}
			return next.HandleFinalize(ctx, in)
		})
	return func(stack *middleware.Stack) error { return stack.Finalize.Add(watch, middleware.After) }
}
