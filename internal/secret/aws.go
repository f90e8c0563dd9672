package secret

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"github.com/pgmedic/pgmedic/internal/awsenv"
)

// awsSource reads aws-sm://region/name[#json-key] from AWS Secrets Manager: its current
// version. Credentials come from the SDK's own chain, and before it from the names that
// AWS itself uses, where Getenv knows them.
type awsSource struct{ o Options }

func (awsSource) parse(rest string) (reference, error) {
	// The name of a secret may hold slashes, and is all that follows the region.
	r, err := named(rest, false)
	if err == nil && strings.ContainsAny(r.place, "._") {
		err = errors.New("does not begin with a region")
	}
	return r, err
}

func (awsSource) timeout() time.Duration { return callTimeout }
func (awsSource) form() string           { return "aws-sm://region/name or aws-sm://region/name#json-key" }
func (awsSource) permission() string {
	return "allow secretsmanager:GetSecretValue on the secret, and kms:Decrypt on its key where that is not the account's own; check AWS_PROFILE or AWS_ACCESS_KEY_ID"
}

func (s awsSource) read(ctx context.Context, r reference) ([]byte, error) {
	load := append(awsenv.Options(s.o.Getenv),
		config.WithRegion(r.place),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }), // Resolver tries again
	)
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, &problem{what: misconfigured, detail: "the AWS configuration can't be read", hint: "look at AWS_PROFILE and the files ~/.aws/config and ~/.aws/credentials"}
	}
	endpoint := or(s.o.Getenv("AWS_ENDPOINT_URL_SECRETS_MANAGER"), s.o.Getenv("AWS_ENDPOINT_URL"))
	client := secretsmanager.NewFromConfig(cfg, func(o *secretsmanager.Options) {
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
		if s.o.HTTP != nil {
			o.HTTPClient = s.o.HTTP
		}
	})
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, &problem{what: refused, detail: "there are no credentials for AWS", hint: "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the host or pod a role"}
	}
	out, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(r.path)})
	if err != nil {
		return nil, awsProblem(err)
	}
	if out.SecretString == nil {
		return out.SecretBinary, nil
	}
	return []byte(*out.SecretString), nil
}

// awsProblem reads the code of an error; its message may name the secret.
func awsProblem(err error) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return &problem{what: unreachable, detail: strings.TrimPrefix(reason(err), ": ")}
	}
	switch code := api.ErrorCode(); code {
	case "ResourceNotFoundException":
		return &problem{what: notFound}
	case "InvalidRequestException": // of one that is marked for deletion
		return &problem{what: notFound, detail: "it may be marked for deletion"}
	case "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException",
		"DecryptionFailure", "InvalidClientTokenId", "IncompleteSignature", "NotAuthorized", "OptInRequired":
		return &problem{what: refused, detail: code}
	case "InvalidParameterException", "ValidationException":
		return &problem{what: notFound, detail: code}
	default:
		return &problem{what: unreachable, detail: code}
	}
}
