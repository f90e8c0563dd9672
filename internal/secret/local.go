package secret

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/words"
)

// fileSource reads file:/path.
type fileSource struct{}

func (fileSource) parse(rest string) (reference, error) {
	rest = strings.TrimPrefix(rest, "//") // file:///run/secrets/x is what people write, too
	if !filepath.IsAbs(rest) {
		return reference{}, errors.New("is not an absolute path")
	}
	return reference{path: rest}, nil
}

func (fileSource) read(_ context.Context, r reference) ([]byte, error) { return readFile(r.path) }
func (fileSource) timeout() time.Duration                              { return callTimeout }
func (fileSource) form() string                                        { return "file:/path" }
func (fileSource) permission() string                                  { return "see that this user may read the file" }

// readFile reads a small file. Its errors have no path.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &problem{what: notFound}
	case errors.Is(err, fs.ErrPermission):
		return nil, &problem{what: refused}
	case err != nil:
		return nil, &problem{what: unreachable, detail: plain(err)}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, &problem{what: unreachable, detail: plain(err)}
	}
	return data, nil
}

// plain is the reason of an error of the file system, without the path.
func plain(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return ""
}

// envSource reads env:NAME.
type envSource struct{ getenv func(string) string }

func (envSource) parse(rest string) (reference, error) {
	if rest == "" || strings.ContainsAny(rest, "= \t\r\n") {
		return reference{}, errors.New("does not name a variable")
	}
	return reference{path: rest}, nil
}

func (s envSource) read(_ context.Context, r reference) ([]byte, error) {
	if value := s.getenv(r.path); value != "" {
		return []byte(value), nil
	}
	return nil, &problem{what: notFound, hint: "set the variable that it names after env:"}
}
func (envSource) timeout() time.Duration { return callTimeout }
func (envSource) form() string           { return "env:NAME" }
func (envSource) permission() string     { return "" }

// credentialSource reads credential:NAME, which systemd's LoadCredential= and
// SetCredential= hand to a service (https://systemd.io/CREDENTIALS/).
type credentialSource struct{ getenv func(string) string }

func (credentialSource) parse(rest string) (reference, error) {
	if rest == "" || rest == "." || rest == ".." || strings.ContainsAny(rest, "/\\ \t\r\n") {
		return reference{}, errors.New("does not name a credential")
	}
	return reference{path: rest}, nil
}

func (s credentialSource) read(_ context.Context, r reference) ([]byte, error) {
	dir := s.getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, &problem{
			what: misconfigured, detail: "CREDENTIALS_DIRECTORY is not set",
			hint: "run pgmedic as a service of systemd with LoadCredential=NAME:/path, or LoadCredentialEncrypted=",
		}
	}
	return readFile(filepath.Join(dir, r.path))
}
func (credentialSource) timeout() time.Duration { return callTimeout }
func (credentialSource) form() string           { return "credential:NAME" }
func (credentialSource) permission() string {
	return "see that the service runs as the user who reads its credentials"
}

// execSource runs exec:/path arg…: the words between spaces, without a shell. Its
// standard output is the secret. What it says on standard error may hold one, and is
// dropped.
type execSource struct{ environ []string }

func (execSource) parse(rest string) (reference, error) {
	words := strings.Fields(rest)
	if len(words) == 0 || !filepath.IsAbs(words[0]) {
		return reference{}, errors.New("does not begin with the absolute path of a program")
	}
	return reference{argv: words}, nil
}

func (s execSource) read(ctx context.Context, r reference) ([]byte, error) {
	cmd := exec.CommandContext(ctx, r.argv[0], r.argv[1:]...) // what the configuration file names, and nothing else
	cmd.Env, cmd.WaitDelay = s.environ, 2*time.Second
	out := &bounded{}
	cmd.Stdout = out
	err := cmd.Run()
	const hint = "run it by hand as the user who runs pgmedic; the words are split at spaces, and no shell reads them"
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, &problem{what: misconfigured, detail: "the program did not end within " + words.Duration(execTimeout), hint: hint}
	case errors.As(err, &exit) && exit.Exited():
		return nil, &problem{what: refused, detail: "the program ended with exit code " + strconv.Itoa(exit.ExitCode()), hint: hint}
	case errors.As(err, &exit):
		return nil, &problem{what: refused, detail: "the program was ended by a signal", hint: hint}
	case errors.Is(err, fs.ErrNotExist):
		return nil, &problem{what: misconfigured, detail: "there is no such program", hint: hint}
	case err != nil:
		return nil, &problem{what: misconfigured, detail: "the program could not be run", hint: hint}
	}
	return out.Bytes(), nil
}
func (execSource) timeout() time.Duration { return execTimeout }
func (execSource) form() string           { return "exec:/path/to/program arguments" }
func (execSource) permission() string     { return "" }

// bounded keeps a little more than a secret may have, and drops the rest.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxBytes + 1 - b.Len(); room > 0 {
		_, _ = b.Buffer.Write(p[:min(len(p), room)]) // never fails
	}
	return len(p), nil
}
