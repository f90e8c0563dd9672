package config

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pgmedic/pgmedic/internal/hidden"
)

// maxSecretBytes is the size above which a file is not a secret but a mistake.
const maxSecretBytes = 64 << 10

// Secret is a text that no print, log or encoding shows. Reveal returns it.
type Secret = hidden.Secret

// resolveSecret follows file:/path and env:NAME. Its error never holds the
// value, nor the path, which may be a mistyped password.
func (l *loader) resolveSecret(f field, r raw) (string, error) {
	if ForNotifications(f.key) {
		return l.secretForLater(f, r)
	}
	if path, ok := strings.CutPrefix(r.text, "file:"); ok {
		return l.secretFile(f, r, path)
	}
	if name, ok := strings.CutPrefix(r.text, "env:"); ok {
		v := l.variable(name)
		l.named = append(l.named, name)
		if v == "" {
			return "", usage(r.origin.subject(f.key)+" names an environment variable that is not set",
				"set the variable that it names after env:, in the environment or in .env")
		}
		l.references[f.key] = Reference{Key: f.key, Origin: r.origin, text: r.text, scheme: "env:", read: true}
		return v, nil
	}
	if scheme := managedScheme(r.text); scheme != "" {
		return "", l.refer(f, r, scheme)
	}
	if r.origin.Source == SourceFlag && (f.rule != "url" || hidden.CarriesPassword(r.text)) {
		return "", usage(r.origin.Name+" has a password on the command line, where every user of this machine can read it",
			"pass file:/path or env:NAME, or set "+f.env+" in the environment")
	}
	return r.text, nil
}

func (l *loader) secretFile(f field, r raw, path string) (string, error) {
	subject := r.origin.subject(f.key)
	path = strings.TrimPrefix(path, "//") // file:///run/secrets/x is what people write, too
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.base, path)
	}
	data, mode, err := hidden.ReadFile(path, maxSecretBytes)
	if err != nil {
		return "", usage(fmt.Sprintf("%s names a file that can't be read: %v", subject, err),
			"check the path after file: and that this user may read it")
	}
	l.references[f.key] = Reference{Key: f.key, Origin: r.origin, text: "file:" + path, scheme: "file:", read: true}
	if late, is := l.ofAccess(f, raw{text: "file:" + path, origin: r.origin}); is {
		l.kept = append(l.kept, late)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return "", usage(subject+" names a file that is empty", "write the secret into the file that it names after file:")
	}
	if strings.ContainsAny(text, "\n\r\x00") {
		return "", usage(subject+" names a file of more than one line",
			"the file must hold the secret alone; the newline at its end is dropped")
	}
	if runtime.GOOS != "windows" && mode.Perm()&0o044 != 0 {
		l.warn("%s: other users can read the file that holds the secret; chmod 600 it", subject)
	}
	return text, nil
}
