package awsenv_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/pgmedic/pgmedic/internal/awsenv"
)

// TestOptions: what the variables say is what the SDK uses, and half a pair of
// credentials is none.
func TestOptions(t *testing.T) {
	for _, name := range []string{"AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("HOME", t.TempDir())
	for name, test := range map[string]struct {
		environ             map[string]string
		region, id, session string
	}{
		"all":     {map[string]string{"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example", "AWS_SESSION_TOKEN": "token"}, "eu-central-1", "AKIDEXAMPLE", "token"},
		"no key":  {map[string]string{"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE"}, "eu-central-1", "", ""},
		"default": {map[string]string{"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1", "", ""},
		"both":    {map[string]string{"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-west-1"}, "eu-central-1", "", ""},
		"nothing": {nil, "", "", ""},
	} {
		cfg, err := config.LoadDefaultConfig(t.Context(), awsenv.Options(func(name string) string { return test.environ[name] })...)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Region != test.region {
			t.Errorf("%s: region %q", name, cfg.Region)
		}
		who, err := cfg.Credentials.Retrieve(t.Context())
		if (err == nil) != (test.id != "") || who.AccessKeyID != test.id || who.SessionToken != test.session {
			t.Errorf("%s: %+v, %v", name, who.AccessKeyID, err)
		}
	}
	if awsenv.Options(nil) != nil {
		t.Error("options of nothing")
	}
}

// TestS3Endpoint: what is said of S3 comes before what is said of all services.
func TestS3Endpoint(t *testing.T) {
	all, own := "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"
	for want, environ := range map[string]map[string]string{
		"": nil, "http://all": {all: "http://all"}, "http://own": {own: "http://own"}, "http://own:1": {all: "http://all", own: "http://own:1"},
	} {
		if got := awsenv.S3Endpoint(func(name string) string { return environ[name] }); got != want {
			t.Errorf("%v: %q, want %q", environ, got, want)
		}
	}
}
