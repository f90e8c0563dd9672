package gcs

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store/remote"
)

const (
	credentialsHint = "set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account, or give this host an identity" //nolint:gosec // names of variables
	policyHint      = "the role lacks a permission (storage.objects.get, list, create or delete on the bucket, or those that object_lock needs): docs/stores.md lists what it must allow"
)

// Explain implements remote.Service.
func (s *service) Explain(err error) remote.Failure {
	f := remote.Failure{Kind: pgmedic.KindUnreachable}
	var answer *googleapi.Error
	var token *oauth2.RetrieveError
	var own *pgmedic.Error
	switch {
	case errors.As(err, &own):
		f.Kind, f.Hint, f.Answered, f.Text = own.Kind, own.Hint, true, own.Err.Error()
		return f
	case errors.Is(err, errNoBucket):
		f.Kind, f.Hint, f.Answered, f.Text = pgmedic.KindUsage, "make the bucket, or correct backup.store or GCP_BUCKET", true, errNoBucket.Error()
		return f
	case errors.As(err, &token):
		f.Hint, f.Answered, f.Denied = "the server doesn't accept these credentials: look at GOOGLE_APPLICATION_CREDENTIALS, whether its key was deleted or disabled, and this host's clock", true, true
		f.Text = "no token could be had with the Google credentials"
		if token.Response != nil {
			code := token.Response.StatusCode
			f.Again = code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout
			f.Refused = !f.Again
			f.Text += fmt.Sprintf(" (status %d)", code)
		}
		return f
	case !errors.As(err, &answer):
		f = remote.Unanswered(err, "backup.gcs.endpoint")
		for _, final := range []error{errWrongRange, errNoVersion, errOutOfStep, errUploadGone, errNotGoogle} {
			f.Again = f.Again && !errors.Is(err, final)
		}
		return f
	}
	f.Answered, f.Text = true, summary(answer)
	switch answer.Code {
	case http.StatusNotFound:
		f.Absent = true
	case http.StatusPreconditionFailed:
		f.Taken = true
	case http.StatusRequestedRangeNotSatisfiable:
		f.Past = true
	case http.StatusUnauthorized:
		f.Denied, f.Refused, f.Hint = true, true, credentialsHint
	case http.StatusForbidden:
		f.Denied, f.Hint = true, policyHint
		f.Again = hasReason(answer, "rateLimitExceeded", "userRateLimitExceeded")
		if hasReason(answer, "retentionPolicyNotMet", "objectUnderActiveHold") {
			f.Locked, f.Denied = true, false
			f.Hint = "a retention time or a hold protects the object until it ends"
		}
	case http.StatusBadRequest:
		if hasReason(answer, "userProjectMissing") {
			f.Kind, f.Hint = pgmedic.KindUsage, "set backup.gcs.user_project: the bucket has the requester pay"
		}
	case http.StatusRequestEntityTooLarge:
		f.Kind, f.Hint = pgmedic.KindFailed, "the store has no room for it"
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		f.Again, f.Hint = true, "the store is overloaded: run again later"
	default:
		f.Again = answer.Code >= 500 && answer.Code != http.StatusNotImplemented
	}
	return f
}

func hasReason(answer *googleapi.Error, reasons ...string) bool {
	for _, item := range answer.Errors {
		for _, reason := range reasons {
			if item.Reason == reason {
				return true
			}
		}
	}
	return false
}

// summary says what Google answered.
func summary(answer *googleapi.Error) string {
	message, _, _ := strings.Cut(answer.Message, "\n")
	if message == "" {
		message = http.StatusText(answer.Code)
	}
	return fmt.Sprintf("%s (status %d)", strings.TrimSuffix(message, "."), answer.Code)
}
