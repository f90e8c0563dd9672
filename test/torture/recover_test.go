package torture_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestRecoverScript brings the torture database back with nothing but what is
// stored in the backup and the programs that RECOVER.md names, on each version with
// its own programs.
func TestRecoverScript(t *testing.T) {
	scratchtest.EachComplete(t, recoverByScript)
}

func recoverByScript(t *testing.T, installation scratch.Installation) {
	source := fixture.Torture(t, start(t, installation), "Recover 'DB' \"ünï\"")
	there := start(t, installation)
	fixture.TortureGlobals(t, there)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "identity.txt")
	if err := os.WriteFile(file, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	phrase := filepath.Join(t.TempDir(), "phrase")
	if err := os.WriteFile(phrase, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := seal.PassphraseKey("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []struct {
		name     string
		method   backup.Method
		seal     seal.Options
		programs []string
		args     []string
	}{
		{"plain gzip", backup.Plain{}, seal.Options{Compression: seal.CompressionGzip}, []string{"gzip"}, nil},
		{
			"plain gzip openssl", backup.Plain{},
			seal.Options{Compression: seal.CompressionGzip, Encryption: seal.EncryptionAES256CBC, Key: key},
			[]string{"gzip", "openssl"}, []string{"--passphrase", phrase},
		},
		{"parallel zstd", backup.Parallel{Jobs: 2}, seal.Options{Compression: seal.CompressionZstd}, []string{"zstd"}, []string{"--jobs", "1"}},
		{
			"parallel zstd age", backup.Parallel{Jobs: 2},
			seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionAge}, []string{"zstd", "age"}, []string{"--identity", file},
		},
	} {
		if brief(installation) && way.seal.Encryption == "" {
			continue
		}
		t.Run(way.name, func(t *testing.T) {
			for _, program := range append(way.programs, "bash") {
				if _, err := exec.LookPath(program); err != nil {
					testkit.Missing(t, fmt.Sprintf("%v: scripts/setup.sh installs it", err))
				}
			}
			c, dir := fixture.NewCatalogIn(t)
			o := fixture.BackupOptions(t, source.DSN(), c)
			o.Method, o.Seal, o.Tools.Dirs = way.method, way.seal, []string{installation.BinDir}
			o.Wraps = []seal.Wrap{{Name: "mine", To: identity.Recipient()}}
			b, err := backup.Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			folder := filepath.Join(dir, filepath.FromSlash(catalog.Folder(b.Server.Name, b.Database.Name, b.ID)))
			wantSafeText(t, folder)
			name := `it's "back" $(from) \ ` + way.name
			if out, err := recoverScript(t, there, folder, append(way.args, name)...); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			refreshed(t, source)
			fixture.WantEqual(t, source, fixture.Place{Server: there, Database: name})

			out, err := recoverScript(t, there, folder, append(way.args, name)...)
			if err == nil || !strings.Contains(out, "already exists") {
				t.Errorf("into a database that exists: %v\n%s", err, out)
			}
			damage(t, folder, b)
			if out, err := recoverScript(t, there, folder, append(way.args, "damaged")...); err == nil {
				t.Errorf("a damaged backup was restored\n%s", out)
			}
			out, err = recoverScript(t, there, folder, append(way.args, "--no-check", "damaged "+way.name)...)
			if err == nil || !strings.Contains(out, "is not complete: drop it") {
				t.Errorf("a damaged backup that was not checked: %v\n%s", err, out)
			}
		})
	}
}

// TestRecoverGlobals brings a database back to a server that has none of its
// roles.
func TestRecoverGlobals(t *testing.T) {
	scratchtest.EachComplete(t, recoverGlobals)
}

func recoverGlobals(t *testing.T, installation scratch.Installation) {
	source := fixture.Torture(t, start(t, installation), "torture")
	there := start(t, installation)
	c, dir := fixture.NewCatalogIn(t)
	o := fixture.BackupOptions(t, source.DSN(), c)
	o.Tools.Dirs = []string{installation.BinDir}
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, filepath.FromSlash(catalog.Folder(b.Server.Name, b.Database.Name, b.ID)))
	// Its folder is in the other server's data, so it can't be made from there.
	fixture.Psql(t, there, "postgres", `SET allow_in_place_tablespaces = on; CREATE TABLESPACE "torture space" LOCATION '';`)
	out, err := recoverScript(t, there, folder, "copy")
	if err == nil || !strings.Contains(out, `"torture Owner"`) || !strings.Contains(out, "add --globals") {
		t.Errorf("without the roles: %v\n%s", err, out)
	}
	if out, err := recoverScript(t, there, folder, "--globals", "copy"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const roles = `SELECT concat_ws(' ', r.rolname, r.rolsuper, r.rolcanlogin, r.rolconfig, 
		(SELECT string_agg(format('%s by %s %s', g.rolname, m.grantor::regrole, to_jsonb(m) - '{oid,roleid,member,grantor}'::text[]), ', '
			ORDER BY g.rolname, m.grantor::regrole::text)
		FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.roleid WHERE m.member = r.oid))
		FROM pg_roles AS r WHERE r.rolname ~ 'torture' ORDER BY r.rolname`
	fixture.WantSame(t, "roles", fixture.Query[string](t, source.DSN(), roles), fixture.Query[string](t, there.DSN("copy"), roles))
}

// recoverScript runs a backup's own script against a server.
func recoverScript(t *testing.T, server *scratch.Server, folder string, args ...string) (string, error) {
	t.Helper()
	cfg, err := pgx.ParseConfig(server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{filepath.Join(folder, "recover.sh")}, args...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+server.BinDir()+":"+os.Getenv("PATH"), "TMPDIR="+cmd.Dir,
		"PGHOST="+cfg.Host, "PGPORT="+strconv.Itoa(int(cfg.Port)), "PGUSER="+cfg.User, "PGPASSWORD="+cfg.Password)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if left, globErr := filepath.Glob(filepath.Join(cmd.Dir, "*")); globErr != nil || len(left) > 0 {
		t.Errorf("the script left %q behind, %v", left, globErr)
	}
	return string(out), err
}

// wantSafeText checks that what is stored as plain text holds no secrets, and
// that shellcheck has nothing to say.
func wantSafeText(t *testing.T, folder string) {
	t.Helper()
	for _, name := range []string{"recover.sh", "RECOVER.md"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("AGE-SECRET-KEY-1")) || bytes.Contains(text, []byte("md5")) || bytes.Contains(text, []byte("SCRAM-SHA")) {
			t.Errorf("%s holds a secret", name)
		}
	}
	if _, err := exec.LookPath("shellcheck"); err != nil {
		testkit.Missing(t, fmt.Sprintf("%v: scripts/setup.sh installs it", err))
	}
	if out, err := exec.CommandContext(t.Context(), "shellcheck", filepath.Join(folder, "recover.sh")).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

// damage flips a bit in the middle of the largest object.
func damage(t *testing.T, folder string, b *pgmedic.Backup) {
	t.Helper()
	var largest pgmedic.Object
	for _, o := range b.Objects {
		if o.Role == pgmedic.RolePack || o.Role == pgmedic.RoleDump {
			if o.StoredBytes > largest.StoredBytes {
				largest = o
			}
		}
	}
	path := filepath.Join(folder, largest.Name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
