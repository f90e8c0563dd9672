// Package awsenv gives AWS's SDK the variables that it reads, where a .env file has them
// and the environment of the process does not.
package awsenv

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// Options are those of config.LoadDefaultConfig by AWS_ACCESS_KEY_ID with
// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, AWS_PROFILE and AWS_REGION, in the
// precedence that the SDK gives them. What getenv does not know is left to the SDK's own
// sources. A nil getenv knows nothing.
func Options(getenv func(name string) string) []func(*config.LoadOptions) error {
	if getenv == nil {
		return nil
	}
	var all []func(*config.LoadOptions) error
	if region := getenv("AWS_REGION"); region != "" {
		all = append(all, config.WithRegion(region))
	}
	if profile := getenv("AWS_PROFILE"); profile != "" {
		all = append(all, config.WithSharedConfigProfile(profile))
	}
	id, key, session := getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY"), getenv("AWS_SESSION_TOKEN")
	if id == "" || key == "" {
		return all
	}
	return append(all, config.WithCredentialsProvider(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: key, SessionToken: session, Source: "AWS_ACCESS_KEY_ID"}, nil
	})))
}
