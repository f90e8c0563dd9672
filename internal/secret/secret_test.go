package secret_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/secret"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// program writes a script of sh, and returns a reference to it.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	write(t, path, "#!/bin/sh\n"+script+"\n")
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return "exec:" + path
}

// TestLocal reads what this host keeps.
func TestLocal(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"one": "value\n", "two": "a\nb\n", "empty": "\n", "object": `{"f":"value","n":1}`, "large": strings.Repeat("x", 70<<10)} {
		write(t, filepath.Join(dir, name), text)
	}
	resolver := secret.New(secret.Options{
		Getenv:  func(name string) string { return map[string]string{"CREDENTIALS_DIRECTORY": dir, "SET": "value"}[name] },
		Environ: []string{"PATH=" + os.Getenv("PATH"), "HANDED=on"},
	})
	for name, ref := range map[string]string{
		"file": "file:" + dir + "/one", "file URL": "file://" + dir + "/one", "variable": "env:SET", "credential": "credential:one",
		"program": program(t, "printf 'value\\n'"), "arguments": program(t, `test "$1$2" = 'a"b' && test "$HANDED" = on && echo value`) + ` a "b`,
		"no input": program(t, "cat; echo value"),
	} {
		if got, err := resolver.Resolve(t.Context(), ref); err != nil || got != "value" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, test := range map[string]struct {
		ref         string
		kind        pgmedic.Kind
		words, hint string
	}{
		"no file":         {"file:" + dir + "/" + canary, pgmedic.KindUsage, "file has no such secret", ""},
		"relative":        {"file:" + canary, pgmedic.KindUsage, "not an absolute path", "file:/path"},
		"two lines":       {"file:" + dir + "/two", pgmedic.KindUsage, "more than one line", "one line"},
		"empty":           {"file:" + dir + "/empty", pgmedic.KindUsage, "is empty", "one line"},
		"too large":       {"file:" + dir + "/large", pgmedic.KindUsage, "larger than 64 KiB", ""},
		"no variable":     {"env:" + canary, pgmedic.KindUsage, "env has no such secret", "set the variable"},
		"no credential":   {"credential:" + canary, pgmedic.KindUsage, "credential has no such secret", "credential:NAME"},
		"outside":         {"credential:../" + canary, pgmedic.KindUsage, "does not name a credential", "credential:NAME"},
		"program fails":   {program(t, "echo "+canary+"; echo "+canary+" >&2; exit 3"), pgmedic.KindUnreachable, "exit code 3", "by hand"},
		"program killed":  {program(t, "kill -9 $$"), pgmedic.KindUnreachable, "ended by a signal", "by hand"},
		"program silent":  {program(t, "true"), pgmedic.KindUsage, "is empty", ""},
		"program chatty":  {program(t, "yes "+canary+" | head -100000"), pgmedic.KindUsage, "larger than", ""},
		"no program":      {"exec:/nowhere/" + canary, pgmedic.KindUsage, "no such program", "by hand"},
		"of the path":     {"exec:pass show " + canary, pgmedic.KindUsage, "absolute path", "exec:/path"},
		"no shell":        {"exec:/bin/echo $(" + canary + ")\n", pgmedic.KindUsage, "", ""},
		"incomplete":      {"aws-sm://" + canary, pgmedic.KindUsage, "aws-sm://… is not complete", "aws-sm://region/name"},
		"no region":       {"aws-sm://my.region/" + canary, pgmedic.KindUsage, "begin with a region", "aws-sm://region/name"},
		"another vault":   {"azure-kv://user@host/" + canary, pgmedic.KindUsage, "do not belong there", "azure-kv://"},
		"a name of Azure": {"azure-kv://vault/a_b" + canary, pgmedic.KindUsage, "does not know", "azure-kv://"},
		"no field":        {"vault://secret/" + canary, pgmedic.KindUsage, "does not name a field", "#field"},
		"climbing":        {"vault://secret/../" + canary + "#f", pgmedic.KindUsage, "do not belong there", "#field"},
		"a query":         {"gcp-sm://p/s?x=" + canary, pgmedic.KindUsage, "do not belong there", "gcp-sm://"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := resolver.Resolve(t.Context(), test.ref)
			if name == "no shell" { // what a shell would have replaced is handed on
				if err != nil || got != "$("+canary+")" {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			wantError(t, err, test.kind, test.words, test.hint)
		})
	}
	none := secret.New(secret.Options{})
	_, err := none.Resolve(t.Context(), "credential:one")
	wantError(t, err, pgmedic.KindUsage, "CREDENTIALS_DIRECTORY is not set", "LoadCredential")
	if _, err := none.Resolve(t.Context(), "hunter2"); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Error(err)
	}
}

// TestKept: a value is asked for once in five minutes, and whenever it has proven wrong.
func TestKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	write(t, path, "first")
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	r := secret.New(secret.Options{Now: func() time.Time { return now }})
	want := func(read func(context.Context, string) (string, error), value string) {
		t.Helper()
		if got, err := read(t.Context(), "file:"+path); err != nil || got != value {
			t.Errorf("%q, %v; want %q", got, err, value)
		}
	}
	want(r.Resolve, "first")
	write(t, path, "second")
	now = now.Add(5*time.Minute - time.Second)
	want(r.Resolve, "first")
	now = now.Add(time.Second)
	want(r.Resolve, "second")
	write(t, path, "third")
	want(r.Resolve, "second")
	want(r.Fresh, "third")
	want(r.Resolve, "third")
}

// TestInterrupted: an interrupt ends a program, and is what the error is.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := pgmedic.Errorf(pgmedic.KindInterrupted, "", "interrupted")
	ref := program(t, "read line </dev/zero")
	cancel(cause)
	if _, err := secret.New(secret.Options{}).Resolve(ctx, ref); pgmedic.KindOf(err) != pgmedic.KindInterrupted {
		t.Errorf("%v", err)
	}
}
