package secret

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/pgmedic/pgmedic/internal/awsenv"
)

// awsKey is a key of AWS KMS: aws-kms://region/key, where the key is an id, an ARN, or
// alias/NAME.
type awsKey struct {
	o           Options
	credentials *awsenv.Credentials
	region, key string

	mu    sync.Mutex
	calls *awsCalls
}

// awsCalls are the two requests that are made, and not the client: in a type that reflection can
// reach, the linker keeps all of the client's methods, 1.5 MiB of them.
type awsCalls struct {
	public func(context.Context, *kms.GetPublicKeyInput, ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error)
	sign   func(context.Context, *kms.SignInput, ...func(*kms.Options)) (*kms.SignOutput, error)
}

func newAWSKey(o Options, credentials *awsenv.Credentials, rest string) (*awsKey, error) {
	// The source of secrets has the same rules: all that follows the region is the name.
	r, err := awsSource{o}.parse(rest)
	if err == nil && strings.Contains(rest, "#") {
		err = errors.New("has characters that do not belong there")
	}
	if credentials == nil {
		credentials = awsenv.NewCredentials(awsenv.CredentialsOptions{Getenv: o.Getenv})
	}
	return &awsKey{o: o, credentials: credentials, region: r.place, key: r.path}, err
}

func (k *awsKey) place() string { return k.region }
func (*awsKey) form() string    { return "aws-kms://region/KEY-ID or aws-kms://region/alias/NAME" }
func (*awsKey) permission() string {
	return "allow kms:GetPublicKey and kms:Sign on the key, in its key policy or the account's; check AWS_PROFILE or AWS_ACCESS_KEY_ID"
}
func (*awsKey) making() string {
	return "aws kms create-key --key-spec ECC_NIST_EDWARDS25519 --key-usage SIGN_VERIFY"
}

// connect returns what the client calls, which is made once.
func (k *awsKey) connect(ctx context.Context) (*awsCalls, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.calls != nil {
		return k.calls, nil
	}
	// The only error that the client repeats a request for is that of credentials which
	// have been read again meanwhile: a backup can take longer than they are valid.
	again := func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.Retryables, o.Backoff = 2, nil, retry.NewExponentialJitterBackoff(1)
		})
	}
	cfg, err := k.credentials.Load(ctx, config.WithRegion(k.region), config.WithRetryer(again))
	if err != nil {
		return nil, &problem{what: misconfigured, detail: "the AWS configuration can't be read", hint: "look at AWS_PROFILE and the files ~/.aws/config and ~/.aws/credentials"}
	}
	endpoint := or(k.o.Getenv("AWS_ENDPOINT_URL_KMS"), k.o.Getenv("AWS_ENDPOINT_URL"))
	client := kms.NewFromConfig(cfg, func(o *kms.Options) {
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
		if k.o.HTTP != nil {
			o.HTTPClient = k.o.HTTP
		}
	})
	k.calls = &awsCalls{client.GetPublicKey, client.Sign}
	return k.calls, nil
}

func (k *awsKey) public(ctx context.Context) (ed25519.PublicKey, error) {
	calls, err := k.connect(ctx)
	if err != nil {
		return nil, err
	}
	out, err := calls.public(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(k.key)})
	if err != nil {
		return nil, awsKeyProblem(err)
	}
	if out.KeySpec != types.KeySpecEccNistEdwards25519 {
		return nil, &problem{what: malformed, detail: "is of the kind " + identifier(string(out.KeySpec)) + ", not ECC_NIST_EDWARDS25519"}
	}
	if out.KeyUsage != types.KeyUsageTypeSignVerify || !slices.Contains(out.SigningAlgorithms, types.SigningAlgorithmSpecEd25519Sha512) {
		return nil, &problem{what: malformed, detail: "is not for signing with ED25519_SHA_512"}
	}
	return parsePublic(out.PublicKey)
}

func (k *awsKey) sign(ctx context.Context, message []byte) ([]byte, error) {
	calls, err := k.connect(ctx)
	if err != nil {
		return nil, err
	}
	out, err := calls.sign(ctx, &kms.SignInput{
		KeyId: aws.String(k.key), Message: message, MessageType: types.MessageTypeRaw, SigningAlgorithm: types.SigningAlgorithmSpecEd25519Sha512,
	})
	if err != nil {
		return nil, awsKeyProblem(err)
	}
	return out.Signature, nil
}

// parsePublic reads a public key as X.509 has it.
func parsePublic(der []byte) (ed25519.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, &problem{what: damaged, detail: "the answer has no public key that can be read"}
	}
	public, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, &problem{what: malformed, detail: "is not one of Ed25519"}
	}
	return public, nil
}

// identifier is a word of an answer, for an error: what is not made of letters, digits,
// dashes and underscores is not repeated.
func identifier(text string) string {
	foreign := func(c rune) bool {
		return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	}
	if text == "" || len(text) > 64 || strings.ContainsFunc(text, foreign) {
		return "unknown"
	}
	return text
}

// awsKeyProblem reads the code of an error; its message may name the key.
func awsKeyProblem(err error) error {
	var missing *awsenv.RetrieveError
	var api smithy.APIError
	switch {
	case errors.As(err, &missing):
		return &problem{what: refused, detail: "there are no credentials for AWS", hint: "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the host or pod a role"}
	case !errors.As(err, &api):
		return awsProblem(err)
	}
	switch code := api.ErrorCode(); code {
	case "NotFoundException", "InvalidArnException":
		return &problem{what: notFound}
	case "DisabledException", "KMSInvalidStateException":
		return &problem{what: malformed, detail: "is disabled, or marked for deletion", hint: "enable it, or name another key"}
	case "InvalidKeyUsageException", "UnsupportedOperationException":
		return &problem{what: malformed, detail: "is not for signing"}
	case "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException":
		return &problem{what: unreachable, detail: code}
	}
	return awsProblem(err)
}
