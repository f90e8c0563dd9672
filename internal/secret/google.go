package secret

import (
	"bytes"
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
	address := googleSecrets + "/v1/projects/" + url.PathEscape(r.place) + "/secrets/" + url.PathEscape(r.path) + "/versions/" + url.PathEscape(r.version) + ":access"
	var out struct {
		Payload *struct {
			Data       string `json:"data"`
			DataCrc32c int64  `json:"dataCrc32c,string"`
		} `json:"payload"`
	}
	if err := s.o.google(ctx, http.MethodGet, address, nil, &out); err != nil {
		return nil, googleProblem(err)
	}
	if out.Payload == nil {
		return nil, &problem{what: malformed, detail: "is empty"}
	}
	data, err := base64.StdEncoding.DecodeString(out.Payload.Data)
	if err != nil || out.Payload.DataCrc32c != 0 && checksum(data) != out.Payload.DataCrc32c {
		return nil, &problem{what: unreachable, detail: "the answer was damaged on the way"}
	}
	return data, nil
}

// checksum is CRC-32C, as Google's answers have it.
func checksum(data []byte) int64 {
	return int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}

// google asks one of Google's services. Its errors are for googleProblem.
func (o Options) google(ctx context.Context, method, address string, body, answer any) error {
	transport := http.DefaultTransport
	if o.HTTP == nil {
		found, err := google.FindDefaultCredentials(googleauth.Context(transport), googleScope) //nolint:contextcheck // a token is used for many requests
		if err != nil {
			return &problem{what: refused, detail: "there are no credentials for Google Cloud", hint: "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account, or give the host or pod one"}
		}
		transport = googleauth.Transport(found.TokenSource, transport)
	}
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return &problem{what: misconfigured}
		}
		payload = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, payload)
	if err != nil {
		return &problem{what: malformed, detail: "has a name that is not one of Google Cloud"}
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := o.client(transport).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // it was read
	response.Body = io.NopCloser(io.LimitReader(response.Body, 4*maxBytes))
	if err := googleapi.CheckResponse(response); err != nil {
		return err
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if json.Unmarshal(text, answer) != nil {
		return &problem{what: unreachable, detail: "the answer is not one of Google Cloud"}
	}
	return nil
}

// googleDisabled is said of what a request may not be made of.
const googleDisabled = "the version may be disabled"

func googleProblem(err error) error {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var api *googleapi.Error
	if !errors.As(err, &api) {
		return &problem{what: unreachable, detail: strings.TrimPrefix(reason(err), ": ")}
	}
	switch api.Code {
	case http.StatusNotFound:
		return &problem{what: notFound}
	case http.StatusBadRequest: // of a version that is disabled or destroyed
		return &problem{what: notFound, detail: googleDisabled}
	case http.StatusForbidden, http.StatusUnauthorized:
		return &problem{what: refused}
	}
	return &problem{what: unreachable, detail: http.StatusText(api.Code)}
}
