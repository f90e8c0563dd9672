package secret

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// azureSuffix follows the name of a vault in Azure's public cloud. In another one the
// reference has the whole name of the host.
const azureSuffix = ".vault.azure.net"

// azureSource reads azure-kv://vault/secret[/version] from Azure Key Vault. Credentials
// come from azidentity's default chain: variables, workload and managed identity, az.
type azureSource struct{ o Options }

func (azureSource) parse(rest string) (reference, error) {
	r, err := named(rest, true)
	if err == nil {
		for _, c := range r.path + r.version {
			if c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
				err = errors.New("names a secret with characters that Key Vault does not know")
			}
		}
	}
	return r, err
}

func (azureSource) timeout() time.Duration { return callTimeout }
func (azureSource) form() string           { return "azure-kv://vault/secret or azure-kv://vault/secret/version" }
func (azureSource) permission() string {
	return "give the identity the role Key Vault Secrets User on the vault, or the permission get for secrets in its access policy"
}

func (s azureSource) read(ctx context.Context, r reference) ([]byte, error) {
	host := r.place
	if !strings.Contains(host, ".") {
		host += azureSuffix
	}
	options := policy.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}} // Resolver tries again
	if s.o.HTTP != nil {
		options.Transport = s.o.HTTP
	}
	who := s.o.Azure
	if who == nil {
		found, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: options})
		if err != nil {
			return nil, &problem{what: refused, detail: "there are no credentials for Azure", hint: azureLogin}
		}
		who = found
	}
	client, err := azsecrets.NewClient("https://"+host, who, &azsecrets.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, &problem{what: misconfigured, detail: "its address is not valid", hint: "write " + s.form()}
	}
	out, err := client.GetSecret(ctx, r.path, r.version, nil)
	if err != nil {
		return nil, azureProblem(err)
	}
	if out.Value == nil {
		return nil, &problem{what: malformed, detail: "is empty"}
	}
	return []byte(*out.Value), nil
}

const azureLogin = "set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET, or use a managed or workload identity"

func azureProblem(err error) error {
	var (
		response *azcore.ResponseError
		login    *azidentity.AuthenticationFailedError
	)
	switch {
	case errors.As(err, &login):
		return &problem{what: refused, detail: "the login failed", hint: azureLogin}
	case !errors.As(err, &response):
		var network interface{ Timeout() bool }
		if !errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded) {
			return &problem{what: refused, detail: "there are no credentials for Azure", hint: azureLogin}
		}
		return &problem{what: unreachable, detail: strings.TrimPrefix(reason(err), ": ")}
	case response.StatusCode == http.StatusNotFound:
		return &problem{what: notFound}
	case response.StatusCode == http.StatusForbidden, response.StatusCode == http.StatusUnauthorized:
		return &problem{what: refused, detail: response.ErrorCode}
	case response.StatusCode == http.StatusBadRequest:
		return &problem{what: notFound, detail: response.ErrorCode}
	}
	return &problem{what: unreachable, detail: response.ErrorCode}
}
