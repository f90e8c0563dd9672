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
