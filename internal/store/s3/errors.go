package s3

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/awsenv"
	"github.com/pgmedic/pgmedic/internal/store"
)

// knownCodes sorts the codes of answers by what can be done about them. What isn't
// here is unreachable without a hint.
var knownCodes = []struct {
	codes []string
	kind  pgmedic.Kind
	hint  string
}{
	{awsenv.RefusedCodes(),
		pgmedic.KindUnreachable, "the server doesn't accept these credentials: look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile, or the role of this host"},
	{[]string{"AccessDenied", "Forbidden", "AllAccessDisabled", "AccountProblem", "403", "401", "Unauthorized"},
		pgmedic.KindUnreachable, "the server refuses these credentials, or they lack a permission; docs/stores.md lists what the policy must allow"},
	{[]string{"NoSuchBucket"}, pgmedic.KindUsage, "make the bucket, or correct backup.store"},
	{[]string{"InvalidBucketName"}, pgmedic.KindUsage, "correct the bucket's name in backup.store"},
	{[]string{"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "307", "MovedPermanently"},
		pgmedic.KindUsage, "the bucket is in another region, or at another endpoint: set AWS_REGION or backup.s3.region, and look at backup.s3.endpoint"},
	{[]string{"RequestTimeTooSkewed"}, pgmedic.KindUnreachable, "this host's clock is wrong: set it"},
	{[]string{"InvalidObjectState", "ObjectNotInActiveTierError"}, pgmedic.KindUnreachable, "the object is in an archive: have S3 restore it first"},
	{[]string{"EntityTooLarge", "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XAmzContentSizeExceeded", "507"},
		pgmedic.KindFailed, "the store has no room for it: raise its quota, or free space there"},
	{[]string{"KMS.NotFoundException", "KMS.DisabledException", "KMS.KMSInvalidStateException"},
		pgmedic.KindUnreachable, "look at the KMS key in backup.s3.kms_key_id"},
	{[]string{"NotImplemented", "501"},
		pgmedic.KindUnreachable, "the server lacks what pgmedic needs, perhaps conditional writes (If-None-Match): docs/stores.md says what it must heed"},
	{[]string{"InvalidArgument", "InvalidRequest"},
		pgmedic.KindUnreachable, "a server that knows no checksums takes objects if AWS_REQUEST_CHECKSUM_CALCULATION and AWS_RESPONSE_CHECKSUM_VALIDATION are both when_required; docs/stores.md says more"},
	{[]string{"SlowDown", "ServiceUnavailable", "Throttling", "RequestLimitExceeded"},
		pgmedic.KindUnreachable, "the store is overloaded: run again later, or lower backup.s3.concurrency"},
}

// failed returns the error of op on key, which may be empty.
func (s *Store) failed(ctx context.Context, op, key string, err error) error {
	op = strings.TrimSuffix(op+" "+key, " ")
	if cause := store.Ended(ctx); cause != nil {
		return fmt.Errorf("%s: %w", op, cause)
	}
	switch {
	case isAbsent(err):
		return pgmedic.Errorf(pgmedic.KindNotFound, "", "%s: %w", op, store.ErrNotFound)
	case isPrecondition(err):
		return pgmedic.Errorf(pgmedic.KindConflict, "", "%s: %w", op, store.ErrExists)
	}
	kind, hint, temporary := s.advise(err)
	return &pgmedic.Error{Kind: kind, Hint: hint, Temporary: temporary, Err: fmt.Errorf("%s: %s: %w", op, s.name, &brief{err})}
}

// advise says what kind of error a request's is, what to do, and whether it may pass.
func (s *Store) advise(err error) (kind pgmedic.Kind, hint string, temporary bool) {
	code, status := codeOf(err), statusOf(err)
	temporary = status >= 500 && status != http.StatusNotImplemented || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || code == "RequestTimeout"
	for _, row := range knownCodes {
		if slices.Contains(row.codes, code) {
			return row.kind, row.hint, temporary
		}
	}
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	var dial *net.OpError
	kind = pgmedic.KindUnreachable
	switch {
	case code != "":
		return kind, "", temporary
	case errors.As(err, &authority):
		return kind, "if the server's certificate comes from a private authority, name its file in backup.s3.ca_file", false
	case errors.As(err, &hostname), errors.As(err, &invalid):
		return kind, "the server's certificate is not valid for this endpoint, or today: look at backup.s3.endpoint and the certificate", false
	case lacksCredentials(err):
		return kind, cmp.Or(pgmedic.HintOf(err), "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, in the environment or .env, or give this host a role"), errors.As(err, &dial)
	case errors.As(err, &dns):
		return kind, "the host's name is not known: look at backup.s3.endpoint and the region; a server that has no names for buckets needs backup.s3.path_style", !dns.IsNotFound
	case errors.As(err, &dial) && dial.Op == "dial":
		return kind, "nothing answers there: look at backup.s3.endpoint, the network and the firewall", true
	}
	return kind, "look at the network, and run it again", true
}

// lacksCredentials reports whether there were no credentials to sign a request with.
func lacksCredentials(err error) bool {
	var retrieve *awsenv.RetrieveError
	return errors.As(err, &retrieve)
}

// brief is an error of the client without the telling of its layers.
type brief struct{ err error }

func (b *brief) Error() string { return summary(b.err) }
func (b *brief) Unwrap() error { return b.err }

// summary says in a few words what went wrong in a request.
func summary(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		text := api.ErrorCode()
		if message := api.ErrorMessage(); message != "" && message != text {
			text += ": " + strings.TrimSuffix(message, ".")
		}
		var answer *awshttp.ResponseError
		if errors.As(err, &answer) && answer.ServiceRequestID() != "" {
			text += " (request " + answer.ServiceRequestID() + ")"
		}
		return text
	}
	var kept *pgmedic.Error // says why those that are kept elsewhere were not found
	if errors.As(err, &kept) {
		return kept.Error()
	}
	if lacksCredentials(err) {
		return "no AWS credentials were found"
	}
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		return trimLayers(operation.Err.Error())
	}
	return err.Error()
}

// trimLayers removes what the client says about itself.
func trimLayers(text string) string {
	for {
		_, rest, found := strings.Cut(text, "request send failed, ")
		if !found {
			return text
		}
		text = rest
	}
}

// codeOf returns the code of an answer, or its status where it has none, or "".
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() != "" && api.ErrorCode() != "UnknownError" {
		return api.ErrorCode()
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) && answer.Response != nil {
		if status := answer.HTTPStatusCode(); status >= 300 {
			return strconv.Itoa(status)
		}
	}
	return ""
}

func statusOf(err error) int {
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) && answer.Response != nil {
		return answer.HTTPStatusCode()
	}
	return 0
}

func hasCode(err error, codes ...string) bool {
	return err != nil && slices.Contains(codes, codeOf(err))
}

// isAbsent reports whether the server says that there is no such object. Some
// say it of a name below that of an object.
func isAbsent(err error) bool {
	return hasCode(err, "NoSuchKey", "NotFound", "404")
}

// isPrecondition reports whether the name is taken, or, from servers that keep
// objects as files, can't be taken beside another.
func isPrecondition(err error) bool {
	return hasCode(err, "PreconditionFailed", "412", "ExistingObjectIsDirectory", "ObjectParentIsFile")
}

// isDenied reports whether the server refused the request as such, so that it
// did nothing.
func isDenied(err error) bool {
	return slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden}, statusOf(err))
}

// isStranger reports whether the server doesn't accept the credentials.
func isStranger(err error) bool { return hasCode(err, awsenv.RefusedCodes()...) }

// isFinal reports whether asking again can't help.
func isFinal(err error) bool {
	status := statusOf(err)
	return status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
}
