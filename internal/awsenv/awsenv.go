// Package awsenv gives AWS's SDK the variables that it reads, where a .env file has them
// and the environment of the process does not.
package awsenv

import (
	"cmp"
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// Options are those of config.LoadDefaultConfig by AWS_ACCESS_KEY_ID with
// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, AWS_PROFILE and AWS_REGION, or
// AWS_DEFAULT_REGION, in the precedence that the SDK gives them. What getenv does not know is left to the SDK's own
// sources. A nil getenv knows nothing.
func Options(getenv func(name string) string) []func(*config.LoadOptions) error {
	if getenv == nil {
		return nil
	}
	var all []func(*config.LoadOptions) error
	if region := cmp.Or(getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION")); region != "" {
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

// S3Endpoint returns the URL of the server that has the buckets, by AWS_ENDPOINT_URL_S3, or
// AWS_ENDPOINT_URL, or empty: then the SDK's own sources say it.
func S3Endpoint(getenv func(name string) string) string {
	return cmp.Or(getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL"))
}
