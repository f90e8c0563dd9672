package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/store/sftptest"
)

// TestSFTP does the whole job with a folder on another host, and with one more as a copy.
func TestSFTP(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	b := newBench(t, patients("20000")...)
	main, far := filepath.Join(t.TempDir(), "main"), filepath.Join(t.TempDir(), "far")
	config := filepath.Join(b.dir, "pgmedic.yaml")
	text := "copies:\n  - name: far\n    store: " + server.URL(far) + "\n    sftp:\n      password: env:FAR_PASSWORD\n      known_hosts: " + server.KnownHosts + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "PGMEDIC_STORE="+server.URL(main), "PGMEDIC_SFTP_IDENTITY_FILE="+server.IdentityFile,
		"PGMEDIC_SFTP_KNOWN_HOSTS="+server.KnownHosts, "FAR_PASSWORD="+server.Password, "SSH_AUTH_SOCK=")
	if out := b.ok("check"); !strings.Contains(out, "is not there on 127.0.0.1 yet") {
		t.Errorf("check says:\n%s", out)
	}
	id := strings.TrimSpace(b.ok("backup", "-q"))
	if out := b.ok("check"); strings.Count(out, "refuses to overwrite") != 2 || strings.Contains(out, server.Password) {
		t.Errorf("check says:\n%s", out)
	}
	b.ok("verify", id)
	b.ok("drill", id, "--store", "far")
	b.ok("restore", id, "--into", b.database+"_copy", "--yes")
	const sum = "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM patients p"
	if got, want := query(t, b.database+"_copy", sum), query(t, b.database, sum); got[0] != want[0] {
		t.Error("the copy has other rows")
	}
	if out := b.ok("list", "-q", "--store", server.URL(main)+"/"); strings.TrimSpace(out) != id {
		t.Errorf("list says %q", out)
	}
	b.ok("prune", "--yes")
	if r := b.run("list", "--store", server.URL(main+"/elsewhere")); r.code != 10 {
		t.Errorf("a folder that is not there: exit code %d, %s", r.code, r.stderr)
	}
	// A host key that is not the known one.
	server.NewHostKey()
	if r := b.run("list"); r.code != 12 || !strings.Contains(r.stderr, "has changed") || strings.Contains(r.stderr, server.Password) {
		t.Errorf("another host key: exit code %d, %s", r.code, r.stderr)
	}
	if r := b.run("backup"); r.code != 12 || !strings.Contains(r.stderr, "has changed") {
		t.Errorf("another host key: exit code %d, %s", r.code, r.stderr)
	}
	server.Stop()
	if r := b.run("list"); r.code != 12 {
		t.Errorf("no server: exit code %d, %s", r.code, r.stderr)
	}
	for what, url := range map[string]string{
		"password": strings.Replace(server.URL(main), "@", ":hunter2@", 1), "no user": "sftp://host/a", "no path": "sftp://u@host", "query": "sftp://u@host/a?x=hunter2",
	} {
		if r := b.run("list", "--store", url); r.code != 2 || strings.Contains(r.stderr, "hunter2") {
			t.Errorf("%s: exit code %d, %s", what, r.code, r.stderr)
		}
	}
}
