package azure

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store/remote"
)

const (
	credentialsHint = "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or give this host an identity" //nolint:gosec // names of variables
	policyHint      = "the role or the signature lacks a permission (read, write, delete or list of blobs): docs/stores.md lists what it must allow"
)

const notAzureHint = "the answer is not Azure's: look at backup.azure.endpoint, and at proxies between this host and the store"

// row says what can be done about codes of answers.
type row struct {
	codes []bloberror.Code
	kind  pgmedic.Kind
	hint  string
}

// lockedCodes are of answers that say that an object can't be changed or deleted yet.
func lockedCodes() []bloberror.Code {
	return []bloberror.Code{bloberror.BlobImmutableDueToPolicy, "BlobImmutableDueToLegalHold"}
}

// refusedCodes are of answers to credentials that are wrong, or no longer right, or perhaps
// are: Azurite has AuthorizationFailure for all of that, Azure for network rules, too.
func refusedCodes() []bloberror.Code {
	return []bloberror.Code{bloberror.AuthenticationFailed, bloberror.InvalidAuthenticationInfo, bloberror.NoAuthenticationInformation, bloberror.AuthorizationFailure}
}

// rows sort codes. What isn't here is unreachable without a hint.
func rows() []row {
	return []row{
		{[]bloberror.Code{bloberror.AuthenticationFailed, bloberror.InvalidAuthenticationInfo, bloberror.NoAuthenticationInformation},
			pgmedic.KindUnreachable, "the server doesn't accept these credentials: look at AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN (whether it has expired), AZURE_STORAGE_CONNECTION_STRING, and this host's clock"},
		{[]bloberror.Code{bloberror.AuthorizationPermissionMismatch, bloberror.InsufficientAccountPermissions, bloberror.AuthorizationResourceTypeMismatch, bloberror.AuthorizationServiceMismatch},
			pgmedic.KindUnreachable, policyHint},
		{[]bloberror.Code{bloberror.AuthorizationFailure, bloberror.AuthorizationSourceIPMismatch, bloberror.AuthorizationProtocolMismatch, "PublicAccessNotPermitted", "KeyBasedAuthenticationNotPermitted"},
			pgmedic.KindUnreachable, "the account's network rules, the signature's address, or a rule against keys keep this host out; or " + policyHint},
		{[]bloberror.Code{bloberror.ContainerNotFound, bloberror.ContainerBeingDeleted, bloberror.ContainerDisabled},
			pgmedic.KindUsage, "make the container, or correct backup.store, AZURE_STORAGE_CONTAINER or AZURE_STORAGE_ACCOUNT"},
		{[]bloberror.Code{bloberror.InvalidResourceName}, pgmedic.KindUsage, "correct the container's name in backup.store"},
		{[]bloberror.Code{bloberror.BlobArchived}, pgmedic.KindUnreachable, "the object is in the Archive tier: rehydrate it first"},
		{lockedCodes(), pgmedic.KindUnreachable, "an immutability policy or a legal hold protects the object until it ends"},
		{[]bloberror.Code{bloberror.SnapshotsPresent}, pgmedic.KindUnreachable, "something else made snapshots of the object: delete them first"},
		{[]bloberror.Code{bloberror.AccountIsDisabled}, pgmedic.KindUnreachable, "the storage account is disabled"},
		{[]bloberror.Code{"AccountStorageCapacityExceeded", bloberror.RequestBodyTooLarge, bloberror.BlockCountExceedsLimit}, pgmedic.KindFailed, "the store has no room for it"},
		{[]bloberror.Code{bloberror.ServerBusy, bloberror.OperationTimedOut, bloberror.InternalError}, pgmedic.KindUnreachable, "the store is overloaded: run again later, or lower backup.azure.concurrency"},
	}
}

// Explain implements remote.Service. Messages of Azure are left out: those of refused
// signatures hold what was signed.
func (s *service) Explain(err error) remote.Failure {
	f := remote.Failure{Kind: pgmedic.KindUnreachable}
	if errors.Is(err, errFolder) {
		f.Absent, f.Answered, f.Text = true, true, errFolder.Error()
		return f
	}
	var own *pgmedic.Error
	if errors.As(err, &own) {
		f.Kind, f.Hint, f.Answered, f.Text = own.Kind, own.Hint, true, own.Err.Error()
		return f
	}
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) {
		return s.unanswered(err)
	}
	code := bloberror.Code(answer.ErrorCode)
	status := answer.StatusCode
	f.Answered, f.Text = true, summary(answer)
	switch {
	case code == bloberror.BlobNotFound, code == "ResourceNotFound":
		f.Absent = true
	case code == "" && status == http.StatusNotFound:
		// Azure names a code with every refusal: this was something else's answer, which
		// knows nothing of the object.
		f.Hint = notAzureHint
	case code == bloberror.BlobAlreadyExists, code == bloberror.ConditionNotMet:
		f.Taken = true
	case slices.Contains(lockedCodes(), code):
		f.Locked = true
	case code == bloberror.InvalidRange, status == http.StatusRequestedRangeNotSatisfiable:
		f.Past = true
	case code == bloberror.InvalidBlockList:
		f.Answered = false // another Put's commit drops the blocks of this one: look who won
	}
	f.Denied = status == http.StatusUnauthorized || status == http.StatusForbidden
	f.Again = status >= 500 && status != http.StatusNotImplemented || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
	if i := slices.IndexFunc(rows(), func(r row) bool { return slices.Contains(r.codes, code) }); i >= 0 {
		f.Kind, f.Hint = rows()[i].kind, rows()[i].hint
	} else if f.Denied {
		f.Hint = policyHint
	}
	f.Refused = slices.Contains(refusedCodes(), code)
	var ability *abilityError
	if f.Denied && errors.As(err, &ability) {
		f.Hint = abilityHint
	}
	if at, expired := s.expired(); f.Denied && expired {
		f.Refused = true
		f.Text += ": the shared access signature expired at " + at.UTC().Format(time.RFC3339)
		f.Hint = "make a new one, and set AZURE_STORAGE_SAS_TOKEN"
	}
	return f
}

// isIdentity reports whether no token could be had. The SDK says it by types of its
// own.
func isIdentity(err error) bool {
	var failed *azidentity.AuthenticationFailedError
	var required *azidentity.AuthenticationRequiredError
	var final interface{ NonRetriable() }
	return errors.As(err, &failed) || errors.As(err, &required) || errors.As(err, &final)
}

// unanswered is Explain of a request without an answer.
func (s *service) unanswered(err error) remote.Failure {
	if isIdentity(err) {
		var network *net.OpError
		return remote.Failure{
			Kind: pgmedic.KindUnreachable, Hint: credentialsHint, Denied: true, Passes: errors.As(err, &network),
			Text: "no Azure credentials were found, or none that a token could be had with",
		}
	}
	f := remote.Unanswered(err, "the account's name (AZURE_STORAGE_ACCOUNT), backup.azure.endpoint")
	f.Again = f.Again && !errors.Is(err, errWrongRange)
	return f
}

// summary says what Azure answered.
func summary(answer *azcore.ResponseError) string {
	text := answer.ErrorCode
	if text == "" {
		text = http.StatusText(answer.StatusCode)
	}
	text = fmt.Sprintf("%s (status %d", text, answer.StatusCode)
	if r := answer.RawResponse; r != nil && r.Header.Get("x-ms-request-id") != "" {
		text += ", request " + r.Header.Get("x-ms-request-id")
	}
	return text + ")"
}
