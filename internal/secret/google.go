package secret

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2/google"
	"google.golang.org/api/googleapi"

	"github.com/pgmedic/pgmedic/internal/googleauth"
)

const (
	// googleSecrets is where Secret Manager is
	// (https://docs.cloud.google.com/secret-manager/docs/reference/rest).
	googleSecrets = "https://secretmanager.googleapis.com" //nolint:gosec // an address
	googleScope   = "https://www.googleapis.com/auth/cloud-platform"
)

// googleSource reads gcp-sm://project/secret[/version] from Google Secret Manager; the
// version is latest unless it is named. Credentials are the application default ones.
type googleSource struct{ o Options }

func (googleSource) parse(rest string) (reference, error) {
	r, err := named(rest, true)
	r.version = or(r.version, "latest")
	return r, err
}

func (googleSource) timeout() time.Duration { return callTimeout }
func (googleSource) form() string {
	return "gcp-sm://project/secret or gcp-sm://project/secret/version"
}
func (googleSource) permission() string {
	return "give the account the role roles/secretmanager.secretAccessor on the secret, and enable the Secret Manager API in the project"
}

func (s googleSource) read(ctx context.Context, r reference) ([]byte, error) {
	transport := http.DefaultTransport
	if s.o.HTTP == nil {
		found, err := google.FindDefaultCredentials(googleauth.Context(transport), googleScope) //nolint:contextcheck // a token is used for many requests
		if err != nil {
			return nil, &problem{what: refused, detail: "there are no credentials for Google Cloud", hint: "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account, or give the host or pod one"}
		}
		transport = googleauth.Transport(found.TokenSource, transport)
	}
	address := googleSecrets + "/v1/projects/" + url.PathEscape(r.place) + "/secrets/" + url.PathEscape(r.path) + "/versions/" + url.PathEscape(r.version) + ":access"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, &problem{what: malformed, detail: "is not the name of a secret"}
	}
	answer, err := s.o.client(transport).Do(request)
	if err != nil {
		return nil, googleProblem(err)
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	answer.Body = io.NopCloser(io.LimitReader(answer.Body, 4*maxBytes))
	if err := googleapi.CheckResponse(answer); err != nil {
		return nil, googleProblem(err)
	}
	var out struct {
		Payload *struct {
			Data       string `json:"data"`
			DataCrc32c int64  `json:"dataCrc32c,string"`
		} `json:"payload"`
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, googleProblem(err)
	}
	if json.Unmarshal(text, &out) != nil {
		return nil, &problem{what: unreachable, detail: "the answer is not one of Secret Manager"}
	}
	if out.Payload == nil {
		return nil, &problem{what: malformed, detail: "is empty"}
	}
	data, err := base64.StdEncoding.DecodeString(out.Payload.Data)
	if err != nil || out.Payload.DataCrc32c != 0 && int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))) != out.Payload.DataCrc32c {
		return nil, &problem{what: unreachable, detail: "the answer was damaged on the way"}
	}
	return data, nil
}

func googleProblem(err error) error {
	var api *googleapi.Error
	if !errors.As(err, &api) {
		return &problem{what: unreachable, detail: strings.TrimPrefix(reason(err), ": ")}
	}
	switch api.Code {
	case http.StatusNotFound:
		return &problem{what: notFound}
	case http.StatusBadRequest: // of a version that is disabled or destroyed
		return &problem{what: notFound, detail: "the version may be disabled"}
	case http.StatusForbidden, http.StatusUnauthorized:
		return &problem{what: refused}
	}
	return &problem{what: unreachable, detail: http.StatusText(api.Code)}
}
