package config

import (
	"slices"
	"strings"
)

// credentialScheme begins the reference to a credential that systemd hands to a service.
const credentialScheme = "credential:" //nolint:gosec // where one is kept

// Credential is a reference to a credential that systemd hands to a service.
type Credential struct {
	// Name is what LoadCredential= calls it. It is part of a reference: no message has it.
	Name string
	// Where names the setting and its place: .env: DB_PASSWORD.
	Where string
}

// Credentials returns the references credential:NAME of all settings, in the order of
// Config: those of copies and of channels too, and those of AWS's variables in the .env
// file. A name can be in several.
func (c *Config) Credentials() []Credential { return slices.Clone(c.credentials) }

// noteCredential notes a reference to a credential; other texts it leaves alone.
func (l *loader) noteCredential(text, where string) {
	if name, is := strings.CutPrefix(strings.TrimSpace(text), credentialScheme); is {
		l.credentials = append(l.credentials, Credential{Name: name, Where: where})
	}
}

// awsReferences notes those of AWS's variables, which are followed when a store is opened.
// A job has none of this process's environment.
func (l *loader) awsReferences() {
	for _, name := range awsSecrets() {
		if other, is := strings.CutPrefix(strings.TrimSpace(l.variable(name)), "env:"); is {
			l.named = append(l.named, other)
		}
		l.noteCredential(l.dotenv[name], l.envName+": "+name)
	}
}

// awsSecrets are AWS's variables that can say where their value is kept.
func awsSecrets() []string {
	return []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
}

// awsNames are AWS's own variables that are read from a .env file.
func awsNames() []string {
	return append(awsSecrets(), "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SECRETS_MANAGER")
}

// awsWarning names AWS's variables in the .env file that nothing reads there.
func (l *loader) awsWarning() {
	read := slices.Concat(awsNames(), known(), l.named)
	var unread []string
	for name, value := range l.dotenv {
		if strings.HasPrefix(name, "AWS_") && isName(name) && value != "" && l.environ[name] == "" && !slices.Contains(read, name) {
			unread = append(unread, name)
		}
	}
	slices.Sort(unread)
	for _, name := range unread {
		l.warn("%s: %s is set but unknown there; the AWS SDK's other variables count only in the environment", l.envName, name)
	}
}
