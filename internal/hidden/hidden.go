// Package hidden keeps secrets out of what is printed: texts that no print shows, and
// connection URLs without their passwords; errors of files without their paths, which may
// be mistyped secrets.
package hidden

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/pgmedic/pgmedic/internal/words"
)

// Secret is a text that no print, log or encoding shows. Reveal returns it.
type Secret string

// Set is what is shown in place of a secret that is set.
const Set = "•••• (set)"

// Reveal returns the secret itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String says whether the secret is set.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return Set
}

// Format writes what String returns, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText writes what String returns.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue logs what String returns.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// RedactURL shows a connection URL without its password and parameters. What
// could be read in two ways, so that a part of the password would show, is
// hidden whole.
func RedactURL(raw string) string {
	if raw == "" {
		return ""
	}
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Opaque != "" {
		return Set
	}
	at := strings.Count(raw, "@")
	if at > 1 || (at == 1) != (u.User != nil) || u.Fragment != "" {
		return Set
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

// CarriesPassword reports whether a connection string may hold a password.
func CarriesPassword(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || strings.Contains(strings.ToLower(raw), "password") || strings.Count(raw, "@") > 1 {
		return true
	}
	_, ok := u.User.Password()
	return ok || (u.User == nil && strings.Contains(raw, "@"))
}

// ReadFile reads a file of at most limit bytes. Its error has no path.
func ReadFile(path string, limit int64) ([]byte, fs.FileMode, error) {
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
		return nil, 0, fmt.Errorf("it is larger than %s", words.Size(limit))
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
