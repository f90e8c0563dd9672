package pgtool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
)

// program is no real one's name, so that only what a test makes is found.
const program = "pg_nonesuch"

func TestFind(t *testing.T) {
	for name, test := range map[string]struct {
		// configured and path are versions by folder, in which %d stands for nothing.
		configured, path map[string]string
		atLeast          int
		want             string // the folder
	}{
		"in a configured folder":        {map[string]string{"a": "15.4"}, nil, 15, "a"},
		"in PATH":                       {nil, map[string]string{"p": "15.4"}, 15, "p"},
		"in a folder by major":          {map[string]string{"a/16/bin": "16.1", "a/14/bin": "14.1"}, nil, 15, "a/16/bin"},
		"the lowest that is enough":     {map[string]string{"a": "18.1", "b": "16.2"}, map[string]string{"p": "17.1"}, 16, "b"},
		"the lowest, in PATH":           {map[string]string{"a": "18.1"}, map[string]string{"p": "17.1"}, 16, "p"},
		"any":                           {map[string]string{"a": "18.1"}, map[string]string{"p": "9.6.24"}, 0, "p"},
		"configured before PATH":        {map[string]string{"a": "15.1"}, map[string]string{"p": "15.9"}, 15, "a"},
		"the first of two in PATH":      {nil, map[string]string{"p": "15.1", "q": "15.9"}, 15, "p"},
		"the first of two configured":   {map[string]string{"a": "15.1", "b": "15.9"}, nil, 15, "a"},
		"a broken one is passed over":   {map[string]string{"a": "broken", "b": "15.9"}, nil, 15, "b"},
		"a beta":                        {map[string]string{"a": "19beta1"}, nil, 19, "a"},
		"with a distribution's own tag": {map[string]string{"a": "15.20 (Debian 15.20-0+deb12u1)"}, nil, 15, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			var finder pgtool.Finder
			var path []string
			for _, folder := range []string{"a", "b"} {
				finder.Dirs = append(finder.Dirs, filepath.Join(root, folder))
			}
			for _, folder := range []string{"p", "q"} {
				path = append(path, filepath.Join(root, folder))
			}
			for _, set := range []map[string]string{test.configured, test.path} {
				for folder, v := range set {
					write(t, filepath.Join(root, folder), program, version(program, v))
				}
			}
			t.Setenv("PATH", strings.Join(append(path, os.Getenv("PATH")), string(os.PathListSeparator)))
			got, err := finder.Find(t.Context(), program, test.atLeast)
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(root, test.want, program); got.Path != want {
				t.Errorf("found %s, want %s", got.Path, want)
			}
			if got.Name != program || strings.TrimSpace(got.Version) != got.Version || got.Version == "" || strings.Contains(got.Version, "(") {
				t.Errorf("found %+v", got)
			}
		})
	}
}

func TestFindFails(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		want   string
	}{
		"missing":            {"", "not installed"},
		"too old":            {version(program, "14.9"), "pg_nonesuch 15 or newer is needed; the newest found is 14.9 at "},
		"exits with failure": {version(program, "15.9") + "; exit 1", "not installed"},
		"no version":         {"echo hello", "not installed"},
		"another program":    {"echo 'pg_nonesuch 15.9'", "not installed"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if test.script != "" {
				write(t, dir, program, test.script)
			}
			_, err := pgtool.Finder{Dirs: []string{dir, "/no/such/[folder"}}.Find(t.Context(), program, 15)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(pgmedic.HintOf(err), "postgresql-client-15") {
				t.Errorf("kind %s, hint %q", pgmedic.KindOf(err), pgmedic.HintOf(err))
			}
		})
	}
}

func TestFindCancelled(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, program, "sleep 600")
	cause := errors.New("the caller had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := (pgtool.Finder{Dirs: []string{dir}}).Find(ctx, program, 15); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// TestFindKeepsSecrets: whatever is called pg_dump is run to be asked its
// version, and must not see what it does not need.
func TestFindKeepsSecrets(t *testing.T) {
	t.Setenv("BACKUP_ENCRYPTION_KEY", "the-secret")
	dir := t.TempDir()
	seen := filepath.Join(t.TempDir(), "seen")
	write(t, dir, program, "env >"+seen+"; "+version(program, "15.1"))
	if _, err := (pgtool.Finder{Dirs: []string{dir}}).Find(t.Context(), program, 15); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "the-secret") {
		t.Error("it saw the secret")
	}
}
