package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/secret"
)

// TestAWSSecret: a variable of AWS may say where its value is kept, which is read again if that
// is asked for; nothing is run, and no error has the value or the path.
func TestAWSSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret-key")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	st := stores{job{secrets: secret.New(secret.Options{})}}
	const name = "AWS_SECRET_ACCESS_KEY"
	want := func(text, value string, again bool) {
		t.Helper()
		if got, err := st.awsSecret(t.Context(), name, text, again); err != nil || got != value {
			t.Errorf("%q, %v, want %q", got, err, value)
		}
	}
	want("wJalrEXAMPLE/key+", "wJalrEXAMPLE/key+", false)
	want("file:"+file, "first", false)
	write("second")
	want("file:"+file, "first", false) // of the last minutes
	want("file:"+file, "second", true)
	want("file:"+file, "second", false)
	for text, words := range map[string]string{
		"exec:/bin/echo hunter2":        "runs no program",
		"aws-sm://eu-central-1/hunter2": "can't be kept there",
		"file:" + file + "-hunter2":     "no such secret",
		"file:hunter2":                  "not an absolute path",
		"vault://secret/hunter2#key":    "VAULT_ADDR",
		"credential:hunter2":            "credential",
	} {
		_, err := st.awsSecret(t.Context(), name, text, true)
		if err == nil || !strings.Contains(err.Error()+pgmedic.HintOf(err), words) || !strings.HasPrefix(err.Error(), name) || strings.Contains(err.Error()+pgmedic.HintOf(err), "hunter2") {
			t.Errorf("%s: %v (%s)", text, err, pgmedic.HintOf(err))
		}
	}
}
