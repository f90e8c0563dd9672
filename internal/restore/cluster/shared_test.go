package cluster_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
)

// TestSharedTablespace: a data folder that was copied with its links is not taken for the one
// that the tablespaces belong to, where the other one lies beside it, runs, or is the one that
// the copy was started in.
func TestSharedTablespace(t *testing.T) {
	for _, how := range []string{"beside", "running", "started", "another version"} {
		t.Run(strings.ReplaceAll(how, " ", "-"), func(t *testing.T) {
			s := newSample(t, sampleFiles())
			if _, err := s.restore(); err != nil {
				t.Fatal(err)
			}
			live := s.options.Dir
			s.options.Dir = filepath.Join(t.TempDir(), "copy")
			if how == "beside" {
				s.options.Dir = filepath.Join(filepath.Dir(live), "copy")
			}
			if out, err := exec.CommandContext(t.Context(), "cp", "-a", live, s.options.Dir).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var err error
			switch how {
			case "running":
				cmd := exec.CommandContext(t.Context(), "cat")
				cmd.Dir = live
				stdin, pipeErr := cmd.StdinPipe()
				if err = errors.Join(pipeErr, cmd.Start()); err == nil {
					defer func() { _ = errors.Join(stdin.Close(), cmd.Wait()) }()
				}
			case "started", "another version":
				err = os.WriteFile(filepath.Join(s.options.Dir, "postmaster.opts"), []byte(`/usr/lib/postgresql/15/bin/postgres "-D" "`+live+`" "-p" "5432"`+"\n"), 0o600)
			}
			if how == "another version" {
				err = errors.Join(err, os.WriteFile(filepath.Join(live, "PG_VERSION"), []byte("16\n"), 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
			s.options.Delta = true
			_, err = s.restore()
			if strings.HasPrefix(how, "another") {
				if err != nil {
					t.Errorf("%v (%s)", err, pgmedic.HintOf(err))
				}
				return
			}
			if pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), "is in use by the cluster in "+live) {
				t.Errorf("it was restored: %v (%s)", err, pgmedic.HintOf(err))
			}
			if text, err := os.ReadFile(filepath.Join(s.options.Plan.Tablespaces[0].To, "PG_15/5/9")); string(text) != "nine" {
				t.Errorf("the living file is %q, %v", text, err)
			}
		})
	}
}
