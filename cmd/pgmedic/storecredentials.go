package main

import (
	"context"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/awsenv"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/store/azure"
)

// renewal says how the secrets of one store are read again when its server refuses them. Azure's
// and those of SFTP are nil where they can't have changed.
type renewal struct {
	aws   *awsenv.Credentials
	azure func(context.Context) (azure.Secrets, error)
	sftp  func(context.Context) (string, error)
}

// renewal is that of a store by its settings. What says where a secret is kept is followed
// whatever is known of it.
func (st stores) renewal(access config.Access) renewal {
	r := renewal{aws: st.awsCredentials()}
	if st.secrets == nil {
		return r
	}
	if access.Keeps("azure") {
		r.azure = func(ctx context.Context) (azure.Secrets, error) {
			a, err := access.Again(ctx, "azure", st.secrets.Fresh)
			return azure.Secrets{ConnectionString: a.Azure.ConnectionString.Reveal(), Key: a.Azure.Key.Reveal(), SASToken: a.Azure.SASToken.Reveal()}, err
		}
	}
	if access.Keeps("sftp") {
		r.sftp = func(ctx context.Context) (string, error) {
			a, err := access.Again(ctx, "sftp", st.secrets.Fresh)
			return a.SFTP.Password.Reveal(), err
		}
	}
	return r
}

// awsCredentials are those of one store at S3. What a variable says of where they are kept is
// followed, and again if the server refuses them.
func (st stores) awsCredentials() *awsenv.Credentials {
	o := awsenv.CredentialsOptions{Getenv: st.cfg.Environment}
	if st.secrets != nil {
		o.Secret = st.awsSecret
	}
	return awsenv.NewCredentials(o)
}

// awsSecret is the value of one of AWS's variables. No such value looks like a reference:
// none has a colon.
func (st stores) awsSecret(ctx context.Context, name, text string, again bool) (string, error) {
	scheme := st.secrets.Scheme(text)
	if scheme == "" {
		return text, nil
	}
	switch scheme {
	case "exec:":
		return "", pgmedic.Errorf(pgmedic.KindUsage, "use credential_process in ~/.aws/config, or another kind of reference", "%s runs no program", name)
	case "aws-sm://":
		return "", pgmedic.Errorf(pgmedic.KindUsage, "keep it elsewhere, or use a profile or a role", "%s is what AWS Secrets Manager is asked with, and can't be kept there", name)
	}
	resolve := st.secrets.Resolve
	if again {
		resolve = st.secrets.Fresh
	}
	value, err := resolve(ctx, strings.TrimSpace(text))
	if err != nil {
		return "", pgmedic.Errorf(pgmedic.KindUnreachable, pgmedic.HintOf(err), "%s: %w", name, err)
	}
	return value, nil
}

// s3Endpoint is the server of a store at S3 whose settings name none, by the .env file. It is
// empty where the environment says it, or that none counts: the SDK reads that by itself.
func (st stores) s3Endpoint() string {
	if strings.EqualFold(st.variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"), "true") || awsenv.S3Endpoint(st.variable) != "" {
		return ""
	}
	return awsenv.S3Endpoint(st.cfg.Environment)
}
