package store

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
)

const (
	// patience is how long a store may take to answer before that is said.
	patience = 2 * time.Second
	// betweenNotices keeps many requests that wait for one store from saying it each.
	betweenNotices = 10 * time.Second
)

// Notices tells a log, now and then, that a store does not answer or is asked again, since
// the pauses and the limits together are long.
type Notices struct {
	log  *slog.Logger
	name string

	mu   sync.Mutex
	told time.Time
}

// Tell logs a warning, if none was logged within the last ten seconds.
func (n *Notices) Tell(message string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := time.Now(); n.told.IsZero() || now.Sub(n.told) >= betweenNotices {
		n.told = now
		n.log.Warn(message, append([]any{"store", n.name}, args...)...)
	}
}

// Watch has it said that something takes long, unless stop is called within two seconds.
func (n *Notices) Watch(what string) (stop func() bool) {
	return time.AfterFunc(patience, func() { n.Tell("the store does not answer; waiting for it", "for", what) }).Stop
}

// retryer is a Retryer that says what failed when a request is tried again.
type retryer struct {
	aws.RetryerV2
	waiting *Notices
}

func (r retryer) RetryDelay(attempt int, err error) (time.Duration, error) {
	delay, delayErr := r.RetryerV2.RetryDelay(attempt, err)
	if delayErr == nil {
		r.waiting.Tell("a request to the store failed; trying again", "attempt", attempt, "of", r.MaxAttempts(), "error", summary(err))
	}
	return delay, delayErr
}

// uploads are the requests that take long because they send much.
var uploads = map[string]bool{"PutObject": true, "UploadPart": true, "CompleteMultipartUpload": true, "UploadPartCopy": true, "CopyObject": true}

// watchRequests watches each attempt of a request whose answer is due at once.
func (n *Notices) watchRequests(stack *middleware.Stack) error {
	return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("pgmedicWaiting",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			if name := awsmiddleware.GetOperationName(ctx); !uploads[name] {
				defer n.Watch(name)()
			}
			return next.HandleFinalize(ctx, in)
		}), middleware.After)
}
