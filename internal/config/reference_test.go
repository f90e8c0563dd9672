package config_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
)

// TestManagedSecrets: a secret that is kept elsewhere is empty until it is read, is shown
// by its scheme alone, and is then as if it had been written down.
func TestManagedSecrets(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pgmedic.yaml", "database:\n  password: exec:/bin/hunter2 one\nbackup:\n  encryption_key: vault://secret/hunter2#key\n")
	cfg := load(t, config.Options{Dir: dir, Environ: []string{"DATABASE_URL=aws-sm://eu-central-1/hunter2#url"}})
	want := map[string]string{"database.url": "aws-sm://… (not read)", "database.password": "exec:… (not read)", "backup.encryption_key": "vault://… (not read)"}
	shown := func() string {
		var all strings.Builder
		for _, v := range cfg.Effective() {
			fmt.Fprintln(&all, v.Key, v.Value)
			if text, kept := want[v.Key]; kept && v.Value != text {
				t.Errorf("%s is shown as %q, not %q", v.Key, v.Value, text)
			}
		}
		return all.String()
	}
	if all := shown() + fmt.Sprint(cfg.Unread()); strings.Contains(all, "hunter2") {
		t.Errorf("a path is shown: %s", all)
	}
	if cfg.Database.URL != "" || cfg.Database.Password != "" || cfg.Backup.EncryptionKey != "" || len(cfg.Unread()) != 3 {
		t.Errorf("before it was read: %v", cfg.Unread())
	}
	asked := ""
	resolve := func(_ context.Context, ref string) (string, error) {
		asked = ref
		return "s3cret", nil
	}
	for range 2 { // the second time there is nothing to read
		if err := cfg.Read(t.Context(), "backup.encryption_key", resolve); err != nil {
			t.Fatal(err)
		}
		resolve = func(context.Context, string) (string, error) { return "", errors.New("asked again") }
	}
	if asked != "vault://secret/hunter2#key" || cfg.Backup.EncryptionKey.Reveal() != "s3cret" || len(cfg.Unread()) != 2 {
		t.Errorf("asked for %q, left %v", asked, cfg.Unread())
	}
	delete(want, "backup.encryption_key")
	if strings.Contains(shown(), "s3cret") {
		t.Error("the secret is shown")
	}
	failing := func(context.Context, string) (string, error) {
		return "", pgmedic.Errorf(pgmedic.KindUnreachable, "h", "exec refuses")
	}
	err := cfg.Read(t.Context(), "database.password", failing)
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.HasPrefix(err.Error(), dir+"/pgmedic.yaml:2: database.password: ") && !strings.HasPrefix(err.Error(), "pgmedic.yaml:2: database.password: ") {
		t.Errorf("%v", err)
	}
}

// TestExecOfTheFile: only the file names programs to run.
func TestExecOfTheFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "dotenv", "DB_PASSWORD=exec:/bin/hunter2\n")
	for _, o := range []config.Options{
		{Environ: []string{"DB_PASSWORD=exec:/bin/hunter2"}},
		{EnvFile: "dotenv"},
		{Flags: []config.Flag{{Key: "database.password", Name: "--password", Value: "exec:/bin/hunter2"}}},
	} {
		o.Dir = dir
		_, err := config.Load(o)
		wantUsage(t, err, "names a program to run, which only pgmedic.yaml can")
		if strings.Contains(err.Error()+pgmedic.HintOf(err), "hunter2") {
			t.Errorf("%v", err)
		}
	}
}

// TestReferenceOfStores: the secrets of stores that managers keep are read when a store is
// opened, each its own, whichever way the store is named; what can't be read keeps no other
// store from being opened, and nothing is shown.
func TestReferenceOfStores(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "known_hosts", "")
	write(t, dir, "pgmedic.yaml", `
backup:
  store: azblob://backups/main
  azure: {account: clinic, key: 'vault://secret/main#key'}
copies:
  - {name: same, store: azblob://backups/second}
  - {name: own, store: azblob://elsewhere/x, azure: {account: other, sas_token: 'credential:own'}}
  - {name: files, store: sftp://backup@files/path, sftp: {password: 'vault://secret/hunter2#password'}}
`)
	resolve := func(_ context.Context, ref string) (string, error) {
		if strings.Contains(ref, "hunter2") {
			return "", pgmedic.Errorf(pgmedic.KindUnreachable, "", "vault://… can't be reached")
		}
		return "read:" + ref, nil
	}
	secretsOf := func(a config.Access) string {
		return strings.Join([]string{a.Azure.Key.Reveal(), a.Azure.SASToken.Reveal(), a.SFTP.Password.Reveal()}, "|")
	}
	for flag, want := range map[string]map[string]string{
		"": {
			"azblob://backups/main": "read:vault://secret/main#key||", "same": "read:vault://secret/main#key||", "own": "|read:credential:own|", "files": "error",
		},
		"own": {"own": "|read:credential:own|", "same": "read:vault://secret/main#key||", "files": "error"},
	} {
		o := config.Options{Dir: dir}
		if flag != "" {
			o.Flags = []config.Flag{{Key: "backup.store", Name: "--store", Value: flag}}
		}
		cfg := load(t, o)
		for _, r := range cfg.Unread() { // as a command does when it begins
			if err := cfg.Read(t.Context(), r.Key, resolve); err != nil {
				t.Errorf("--store %q: %v", flag, err)
			}
		}
		got := map[string]string{}
		read := func(name string, a config.Access) {
			a, err := a.Read(t.Context(), resolve)
			if got[name] = secretsOf(a); err != nil {
				got[name] = "error"
				if pgmedic.KindOf(err) != pgmedic.KindUnreachable || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "sftp.password") {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		for _, s := range cfg.Stores() {
			read(s.Name, s.Access)
		}
		for name, secrets := range want {
			if got[name] != secrets {
				t.Errorf("--store %q: %s has %q, want %q", flag, name, got[name], secrets)
			}
		}
		if flag == "own" {
			if a, err := cfg.Backup.Read(t.Context(), resolve); err != nil || secretsOf(a) != want["own"] {
				t.Errorf("the chosen store has %q, %v", secretsOf(a), err)
			}
		}
		for _, v := range cfg.Effective() {
			if strings.Contains(v.Value, "hunter2") {
				t.Errorf("%s shows %q", v.Key, v.Value)
			}
		}
	}
}

// TestAgain: what is in a file or a manager can be read again; what was written down
// can't have changed.
func TestAgain(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "password", "first\n")
	resolve := func(_ context.Context, ref string) (string, error) { return "again:" + ref, nil }
	for text, want := range map[string]string{"file:password": "again:file:" + dir + "/password", "credential:x": "again:credential:x", "env:OTHER": "again:env:OTHER", "plain": ""} {
		cfg := load(t, config.Options{Dir: dir, Environ: []string{"DB_PASSWORD=" + text, "OTHER=x"}})
		got, ok, err := cfg.Again(t.Context(), "database.password", resolve)
		if err != nil || got != want || ok != (want != "") || cfg.Kept("database.password") != ok {
			t.Errorf("%s: %q, %v, %v", text, got, ok, err)
		}
	}
}

// TestSigners: public keys stay as they are, and paths become absolute.
func TestSigners(t *testing.T) {
	dir := t.TempDir()
	const key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
	file := write(t, dir, "etc/pgmedic.yaml", "backup:\n  trusted_signers:\n    - "+key+"\n    - signer.pub\n")
	if got := load(t, config.Options{Dir: dir, File: file}).Backup.TrustedSigners; len(got) != 2 || got[0] != key || got[1] != dir+"/etc/signer.pub" {
		t.Errorf("%q", got)
	}
	if got := load(t, config.Options{Dir: dir, Environ: []string{"PGMEDIC_TRUSTED_SIGNERS=" + key + ", other.pub"}}).Backup.TrustedSigners; len(got) != 2 || got[0] != key || got[1] != dir+"/other.pub" {
		t.Errorf("%q", got)
	}
}

// TestSigningKey: a file's path becomes absolute, a reference to a key manager stays as it
// is, and other schemes are refused.
func TestSigningKey(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"signing.key": dir + "/signing.key", "/etc/signing.key": "/etc/signing.key", "aws-kms://eu-central-1/alias/x": "aws-kms://eu-central-1/alias/x",
		"gcp-kms://p/l/r/k/1": "gcp-kms://p/l/r/k/1", "vault-transit://transit/x": "vault-transit://transit/x",
	} {
		cfg := load(t, config.Options{Dir: dir, Environ: []string{"PGMEDIC_SIGNING_KEY=" + text}})
		if cfg.Backup.SigningKey != want {
			t.Errorf("%s: %q", text, cfg.Backup.SigningKey)
		}
		for _, v := range cfg.Effective() {
			if v.Key == "backup.signing_key" && v.Value != want {
				t.Errorf("%s is shown as %q", text, v.Value)
			}
		}
	}
	for _, text := range []string{"azure-kv://vault/key", "aws-kms:eu-central-1/x", "s3://bucket/key", "~/signing.key", "AWS-KMS://eu-central-1/x"} {
		_, err := config.Load(config.Options{Dir: dir, Environ: []string{"PGMEDIC_SIGNING_KEY=" + text}})
		if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), "PGMEDIC_SIGNING_KEY") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestAccessAgain: the secrets of a store that are in files or managers can be read again, each
// store's own, and nothing else of it changes.
func TestAccessAgain(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "known_hosts", "")
	write(t, dir, "sas", "sig=first\n")
	write(t, dir, "password", "first\n")
	write(t, dir, "pgmedic.yaml", `
backup:
  store: azblob://backups/main
  azure: {account: clinic, key: 'vault://secret/main#key', sas_token: 'file:sas'}
copies:
  - {name: same, store: azblob://backups/second}
  - {name: plain, store: azblob://elsewhere/x, azure: {account: other, sas_token: 'sig=plain'}}
  - {name: files, store: sftp://backup@files/path, sftp: {password: 'file:password'}}
`)
	read := func(when string) config.Resolve {
		return func(_ context.Context, ref string) (string, error) { return when + ref, nil }
	}
	cfg := load(t, config.Options{Dir: dir})
	got := map[string]string{}
	for _, s := range cfg.Stores() {
		first, err := s.Access.Read(t.Context(), read("first:"))
		if err != nil {
			t.Fatal(err)
		}
		a := first
		for _, kind := range []string{"azure", "sftp"} {
			if a, err = a.Again(t.Context(), kind, read("again:")); err != nil {
				t.Fatal(err)
			}
		}
		got[s.Name] = fmt.Sprint(a.Keeps("azure"), a.Keeps("sftp"), " ", strings.Join([]string{a.Azure.Account, a.Azure.Key.Reveal(), a.Azure.SASToken.Reveal(), a.SFTP.Password.Reveal()}, "|"))
		if s.Name == "files" && first.SFTP.Password.Reveal() != "first" {
			t.Errorf("at first: %q", first.SFTP.Password.Reveal())
		}
	}
	azure := "clinic|again:vault://secret/main#key|again:file:" + dir + "/sas|"
	for name, want := range map[string]string{
		"azblob://backups/main": "true false " + azure, "same": "true false " + azure,
		"plain": "false false other||sig=plain|", "files": "true true " + azure + "again:file:" + dir + "/password",
	} {
		if got[name] != want {
			t.Errorf("%s: %s, want %s", name, got[name], want)
		}
	}
	failing := func(context.Context, string) (string, error) {
		return "", pgmedic.Errorf(pgmedic.KindUnreachable, "h", "vault can't be reached")
	}
	if _, err := cfg.Backup.Again(t.Context(), "azure", failing); pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "azure.") {
		t.Errorf("%v", err)
	}
}
