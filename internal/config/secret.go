package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// maxSecretBytes is the size above which a file is not a secret but a mistake.
const maxSecretBytes = 64 << 10

// Secret is a text that no print, log or encoding shows. Reveal returns it.
type Secret string

// hiddenSecret is what is shown in place of a secret that is set.
const hiddenSecret = "•••• (set)" //nolint:gosec // what stands in place of a secret

// Reveal returns the secret itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String says whether the secret is set.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hiddenSecret
}

// Format writes what String returns, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText writes what String returns.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue logs what String returns.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// redactURL shows a connection URL without its password and parameters. What
// could be read in two ways, so that a part of the password would show, is
// hidden whole.
func redactURL(raw string) string {
	if raw == "" {
		return ""
	}
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Opaque != "" {
		return hiddenSecret
	}
	at := strings.Count(raw, "@")
	if at > 1 || (at == 1) != (u.User != nil) || u.Fragment != "" {
		return hiddenSecret
	}
	shown := u.Scheme + "://"
	if u.User != nil {
		shown += url.User(u.User.Username()).String()
		if _, ok := u.User.Password(); ok {
			shown += ":••••"
		}
		shown += "@"
	}
	shown += u.Host + u.EscapedPath()
	if u.RawQuery != "" {
		shown += "?…"
	}
	return shown
}

// carriesPassword reports whether a connection string may hold a password.
func carriesPassword(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || strings.Contains(strings.ToLower(raw), "password") || strings.Count(raw, "@") > 1 {
		return true
	}
	_, ok := u.User.Password()
	return ok || (u.User == nil && strings.Contains(raw, "@"))
}

// resolveSecret follows file:/path and env:NAME. Its error never holds the
// value, nor the path, which may be a mistyped password.
func (l *loader) resolveSecret(f field, r raw) (string, error) {
	if path, ok := strings.CutPrefix(r.text, "file:"); ok {
		return l.secretFile(f, r, path)
	}
	if name, ok := strings.CutPrefix(r.text, "env:"); ok {
		v := l.environ[name]
		if v == "" {
			v = l.dotenv[name]
		}
		if v == "" {
			return "", usage(r.origin.subject(f.key)+" names an environment variable that is not set",
				"set the variable that it names after env:, in the environment or in .env")
		}
		return v, nil
	}
	if r.origin.Source == SourceFlag && (f.rule != "url" || carriesPassword(r.text)) {
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
	data, mode, err := readFile(path, maxSecretBytes)
	if err != nil {
		return "", usage(fmt.Sprintf("%s names a file that can't be read: %v", subject, err),
			"check the path after file: and that this user may read it")
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

// readFile reads a file of at most limit bytes. Its error has no path.
func readFile(path string, limit int64) ([]byte, fs.FileMode, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, withoutPath(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, withoutPath(err)
	}
	if info.IsDir() {
		return nil, 0, errors.New("it is a folder")
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, 0, withoutPath(err)
	}
	if int64(len(data)) > limit {
		return nil, 0, fmt.Errorf("it is larger than %d KiB", limit>>10)
	}
	return data, info.Mode(), nil
}

// withoutPath unwraps the path out of an error of the file system.
func withoutPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
